"""A whole run in the driver: set up, start the workers, watch them, end with a result or the first cause."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from optuna_spark.distribution.launch import launch
from optuna_spark.distribution.local import end_workers
from optuna_spark.driver.coordinator import LoadedRun
from optuna_spark.driver.database_run import OpenedDatabaseRun
from optuna_spark.driver.ending import ENDING
from optuna_spark.driver.progress import PREFIX, Snapshot, duration, progress_line
from optuna_spark.errors import RunEndedError, SpecError, TuningError, error_class
from optuna_spark.shown import shown
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.trial_callback import Callbacks, TrialCallback
from optuna_spark.wire.payload import WorkerPayload, WorkerReport

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

PROGRESS_S = 3.0
LEAVE_S = 30.0
# Less than ending.END_S, with time left to close what the workers leave behind.
ENDED_LEAVE_S = 8.0


class OpenedRun(Protocol):
    """The driver's side of a run, whoever coordinates it: its study is open.

    `start` is told the address to listen on and the one at which workers reach the driver. What it returns is finished
    whatever happens; where it was not called or has failed, `close` is.
    """

    def start(self, bind: str, host: str) -> StartedRun: ...

    def close(self) -> None: ...


class StartedRun(Protocol):
    """The same once workers may come; `finish` is called whatever happens."""

    @property
    def payload(self) -> WorkerPayload: ...

    def snapshot(self) -> Snapshot: ...

    def watch(self, snapshot: Snapshot) -> None: ...

    def stop_reason(self) -> str | None: ...

    def stop(self, reason: str) -> None: ...

    def finish(self) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its last snapshot, and why it ended before its trials were spent, if it did."""

    snapshot: Snapshot
    stop_reason: str | None = None


def tune(
    spec: TuningSpec,
    url: str,
    spark: SparkSession | Callable[[], SparkSession] | None = None,
    secrets: DataSecrets | None = None,
    callbacks: Sequence[TrialCallback] = (),
) -> RunResult:
    """Run the spec's trials.

    Args:
        spec: The run.
        url: The study's storage.
        spark: The session, or what makes it: then the study is opened while Spark starts. None only for the `local`
            distribution.
        secrets: What `data.connection` holds.
        callbacks: Told of the trials, and of the run's end. Of modules that workers can import, where the workers
            coordinate through the database.

    Raises:
        SpecError: The spec names a connection and no secrets are given.
        TuningError: The run cannot start, too many trials failed, or the workers ended early.
    """
    _refuse_in_a_worker_that_imports_the_program()
    if spec.data is not None and spec.data.connection and secrets is None:
        raise SpecError(
            f"data.connection {spec.data.connection!r} is an Airflow connection: start the run from Airflow"
        )
    told = Callbacks(callbacks)
    try:
        result = _run(spec, url, spark, secrets, told)
    except BaseException as error:
        told.run_ended(str(error))
        raise
    else:
        told.run_ended(result.stop_reason)
        return result
    finally:
        with ENDING.tidying():
            told.close()


def _run(
    spec: TuningSpec,
    url: str,
    spark: SparkSession | Callable[[], SparkSession] | None,
    secrets: DataSecrets | None,
    callbacks: Callbacks,
) -> RunResult:
    open_run: Callable[[], OpenedRun]
    open_run = partial(OpenedDatabaseRun if spec.coordination == "database" else LoadedRun, spec, url, callbacks)
    opened, session = _open(open_run, spark)
    run = _start(opened, session)
    try:
        payload = replace(run.payload, data_secrets=secrets or DataSecrets())
        log.info("%s Starting %s workers (%s)", PREFIX, spec.tasks, spec.distribution)
        reports = _watch_while_launched(run, spec, payload, session)
        snapshot, reason = run.snapshot(), run.stop_reason()
        run.watch(snapshot)
    finally:
        with ENDING.tidying():
            run.finish()
    log.info(progress_line(snapshot))
    _raise_if_short(spec, snapshot, reason, reports)
    log.info("%s Done in %s%s", PREFIX, duration(snapshot.elapsed_s), f": {reason}" if reason else "")
    return RunResult(snapshot, reason)


def _refuse_in_a_worker_that_imports_the_program() -> None:
    """A `local` worker imports the program that started it; a call of `tune` there would take the run over."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise TuningError(
            "tune() was called while a worker imported the program that runs it:"
            ' put the call under if __name__ == "__main__":'
        )


def _open(
    open_run: Callable[[], OpenedRun], spark: SparkSession | Callable[[], SparkSession] | None
) -> tuple[OpenedRun, SparkSession | None]:
    """Open the run's study, and make the session meanwhile where there is none."""
    if not callable(spark):
        return open_run(), spark
    with ThreadPoolExecutor(1, "open") as pool:
        opening = pool.submit(open_run)
        try:
            session = spark()
            return opening.result(), session
        except BaseException:
            with ENDING.tidying():
                if opening.exception() is None:
                    opening.result().close()
            raise


def _start(opened: OpenedRun, session: SparkSession | None) -> StartedRun:
    try:
        return opened.start(*_addresses(session))
    except BaseException:
        with ENDING.tidying():
            opened.close()
        raise


def _addresses(spark: SparkSession | None) -> tuple[str, str]:
    """Where the driver listens, and how workers reach it."""
    if spark is None:
        return "127.0.0.1", "127.0.0.1"
    host = spark.conf.get("spark.driver.host", "127.0.0.1") or "127.0.0.1"
    return spark.conf.get("spark.driver.bindAddress", host) or host, host


def _watch_while_launched(
    run: StartedRun, spec: TuningSpec, payload: WorkerPayload, spark: SparkSession | None
) -> list[WorkerReport]:
    launched = _Launched(spec, payload, spark)
    try:
        while not launched.wait(PROGRESS_S):
            snapshot = run.snapshot()
            log.info(progress_line(snapshot))
            run.watch(snapshot)
    except RunEndedError as ended:
        run.stop(str(ended))
        if spec.coordination == "database":
            # Its workers write to the study themselves: they must be gone before their trials are closed.
            _cancel_jobs(spark)
            launched.wait(ENDED_LEAVE_S)
        raise
    except TuningError:
        # The run has been stopped: let workers end what they do, so that no trial begins after it is cleaned up.
        launched.wait(LEAVE_S)
        raise
    return launched.reports()


def _cancel_jobs(spark: SparkSession | None) -> None:
    """End the workers in the middle of their trials."""
    if spark is None:
        end_workers()
        return
    try:
        spark.sparkContext.cancelAllJobs()
    except Exception as error:  # noqa: BLE001  # Spark's Java may be gone already, and its jobs with it
        log.info("%s Spark had ended before: %s", PREFIX, type(error).__name__)


class _Launched(threading.Thread):
    """The launch, which blocks until all workers ended, beside the watching thread."""

    def __init__(self, *args: Any) -> None:
        super().__init__(daemon=True, name="launch")
        self._args = args
        self._reports: list[WorkerReport] = []
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._reports = launch(*self._args)
        except Exception as error:  # noqa: BLE001  # raised again in the main thread
            self._error = error

    def wait(self, timeout_s: float) -> bool:
        self.join(timeout_s)
        return not self.is_alive()

    def reports(self) -> list[WorkerReport]:
        if self._error is not None:
            raise self._error
        return self._reports


def _raise_if_short(spec: TuningSpec, snapshot: Snapshot, reason: str | None, reports: list[WorkerReport]) -> None:
    failures = [r for r in reports if r.error is not None]
    for report in failures:
        log.warning("%s Worker %s (%s) ended early: %s", PREFIX, report.index, shown(report.worker), report.error)
    spent = snapshot.finished + (snapshot.failed if spec.stop.failures_count else 0)
    if reason is not None or spent >= spec.trials:
        return
    if failures:
        raise error_class(failures[0].error_kind)(failures[0].error or "")
    raise TuningError(
        f"the workers ended after {snapshot.finished} of {spec.trials} trials: see the Spark executors' logs"
    )
