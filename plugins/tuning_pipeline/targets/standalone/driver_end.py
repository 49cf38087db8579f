"""Ends Spark's driver from outside: asks it to end, gives it time, then kills it."""

from __future__ import annotations

import contextlib
import time
from logging import Logger
from typing import Any

import psutil

# The driver ends itself within END_S (optuna_spark.driver.ending). This is a little longer, for Spark's Java after it.
# If Airflow kills the task earlier (a marked one 5 s after SIGTERM), the driver still ends in good order, because it
# has a session of its own.
GRACE_S = 25.0
_TICK_S = 0.1


def end_application(argument: str, log: Logger | Any) -> None:
    """End the application that this process has submitted, and wait until it is gone.

    Its Python must end first, while Spark's Java still works: Python closes the trials, and then Java removes its
    temporary files.

    Args:
        argument: An argument of the application that no other process has.
        log: Logs what is done.
    """
    application = _application(argument)
    if not application:
        return
    # Below spark-submit, only the driver's Python has the argument too.
    drivers = [process for process in application[1:] if _names(process, argument)]
    log.info("Ending Spark's driver: it has %g s to close its trials and its files", GRACE_S)
    _signal(drivers or application[:1], psutil.Process.terminate)
    if _gone_within(application, GRACE_S):
        log.info("Spark's driver ended in good order")
        return
    log.warning("Spark's driver did not end within %g s: killed", GRACE_S)
    _signal(application, psutil.Process.kill)


def _application(argument: str) -> list[psutil.Process]:
    """The process of spark-submit, then all processes below it; empty if there is none."""
    for child in psutil.Process().children():
        if _names(child, argument):
            with contextlib.suppress(psutil.NoSuchProcess):
                return [child, *child.children(recursive=True)]
    return []


def _names(process: psutil.Process, argument: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return argument in process.cmdline()
    return False


def _signal(processes: list[psutil.Process], send: Any) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            send(process)


def _gone_within(processes: list[psutil.Process], seconds: float) -> bool:
    # Not psutil.wait_procs, which would take the exit code that Airflow's hook waits for.
    deadline = time.monotonic() + seconds
    while any(_lives(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_TICK_S)
    return True


def _lives(process: psutil.Process) -> bool:
    try:
        # Java looks like a zombie for some milliseconds, while its other threads end.
        return bool(process.is_running()) and (process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False
