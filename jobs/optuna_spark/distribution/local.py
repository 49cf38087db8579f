"""Workers as plain processes on this machine: no Spark, no Java."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import cast

from optuna_spark.distribution.python_daemon import reseed
from optuna_spark.errors import DeviceError
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload, WorkerReport
from optuna_spark.worker.worker import run_worker

log = logging.getLogger(__name__)

# Seconds that a process may take to end after its report: an objective may have started threads that never end.
END_S = 30.0
# How often a worker that dies is started in all, as Spark's spark.task.maxFailures.
STARTS = 4
_NAME = "tuning-worker-"
# Seconds that a worker has after SIGTERM, which an objective may ignore. Then it is killed.
KILL_S = 2.0
# The processes that `end_workers` ended. They did not die by themselves, and are not started again.
_ENDED: set[int | None] = set()


def launch_local(spec: TuningSpec, payload: WorkerPayload) -> list[WorkerReport]:
    """Run the workers as processes; one that dies is started again. Returns their reports once all have ended.

    Raises:
        DeviceError: The workers need more GPUs than this machine has.
    """
    addresses = local_gpus(spec)
    starts = dict.fromkeys(range(spec.tasks), 0)
    waiting, reports = list(starts), []
    running: dict[Connection, tuple[int, ForkServerProcess]] = {}
    while waiting or running:
        for index in waiting:
            starts[index] += 1
            reader, process = _start(payload, index, addresses[index])
            running[reader] = (index, process)
        waiting = []
        for ready in wait(list(running)):
            reader = cast(Connection, ready)  # wait returns what it was given
            index, process = running.pop(reader)
            report = _report(reader, index, process)
            # A worker that SIGTERM ended did not die by itself, and is not started again.
            ended = process.exitcode == -signal.SIGTERM or process.pid in _ENDED
            died = report.error_kind == "WorkerDied" and not ended
            if died and starts[index] < STARTS:
                waiting.append(index)
            else:
                reports.append(report)
    return reports


def end_workers() -> None:
    """End the workers that this process started, even in the middle of a trial."""
    workers = [process for process in multiprocessing.active_children() if process.name.startswith(_NAME)]
    _ENDED.update(process.pid for process in workers)
    for process in workers:
        process.terminate()
    deadline = time.monotonic() + KILL_S
    for process in workers:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()


def _start(payload: WorkerPayload, index: int, addresses: Sequence[str] | None) -> tuple[Connection, ForkServerProcess]:
    # Not fork: a forked process cannot use CUDA if its parent did. The fork server imports what a worker needs once for
    # all workers, and nothing of CUDA.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optuna_spark.worker.worker"])
    reader, writer = context.Pipe(duplex=False)
    arguments = (writer, dict(os.environ), payload, index, addresses)
    process = context.Process(target=_main, args=arguments, daemon=True, name=f"{_NAME}{index}")
    process.start()
    writer.close()  # the worker has the only one left: when it dies, the reader sees the end
    return reader, process


def _main(
    writer: Connection,
    environment: Mapping[str, str],
    payload: WorkerPayload,
    index: int,
    addresses: Sequence[str] | None,
) -> None:
    os.environ.update(environment)  # the fork server has the environment of the moment it was started
    reseed()  # all workers are forked from one process, and would draw the same random numbers
    writer.send(run_worker(payload, index, addresses))


def _report(reader: Connection, index: int, process: ForkServerProcess) -> WorkerReport:
    try:
        report: WorkerReport = reader.recv()
    except EOFError:
        _end(process, index)
        text = f"worker {index} died with exit code {process.exitcode}"
        return WorkerReport(index, f"local:{process.pid}", 0, text, "WorkerDied")
    _end(process, index)
    return report


def _end(process: ForkServerProcess, index: int) -> None:
    """Wait for the end of a process that has nothing left to do, and kill it if it does not end."""
    process.join(END_S)
    if process.is_alive():
        log.warning("[tuning] Worker %d, process %s, did not end within %g s: killed", index, process.pid, END_S)
        process.kill()
        process.join(END_S)


def local_gpus(spec: TuningSpec) -> list[Sequence[str] | None]:
    """The GPU addresses of each worker; None for each if the run uses no GPU. Workers share a GPU by `gpus_per_task`.

    Raises:
        DeviceError: The workers need more GPUs than this machine has.
    """
    each = spec.resources.gpus_per_task
    if not each:
        return [None] * spec.tasks
    gpus = visible_gpus()
    if each >= 1:
        groups: list[Sequence[str]] = [gpus[i : i + int(each)] for i in range(0, len(gpus), int(each))]
        slots = [group for group in groups if len(group) == int(each)]
    else:
        # + 1e-9: rounding may leave 1 / each just below a whole number.
        slots = [[gpu] for gpu in gpus for _ in range(int(1 / each + 1e-9))]
    if len(slots) < spec.tasks:
        raise DeviceError(
            f"{spec.tasks} tasks of {each:g} GPU do not fit on {len(gpus)} GPU(s) of this machine:"
            " lower tasks or resources.gpus_per_task"
        )
    return list(slots[: spec.tasks])


def visible_gpus() -> list[str]:
    """Addresses of the GPUs that this process may use, from CUDA_VISIBLE_DEVICES or nvidia-smi."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no driver, so no GPU
        return []
    return output.split()
