"""A whole run in the driver: open the study, start the workers, watch them, return the result or raise the cause."""

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
from optuna_spark.driver.grace import Grace, how
from optuna_spark.driver.progress import PREFIX, Snapshot, progress_line, write_progress
from optuna_spark.driver.waiting import Waiting
from optuna_spark.errors import DataError, ResourcesError, RunEndedError, SpecError, TuningError, error_class
from optuna_spark.objectives.registry import check_objective
from optuna_spark.shown import duration, shown
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.trial_callback import Callbacks, TrialCallback
from optuna_spark.wire.payload import WorkerPayload, WorkerReport

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

PROGRESS_S = 3.0
# How long workers may take to leave a run that has failed; the driver then ends without them.
LEAVE_S = 30.0
# The same after the end of the time that running trials had to end, when the tasks are cancelled.
CUT_LEAVE_S = 10.0
# The same after SIGTERM. Less than ending.END_S: some of that time is needed to close the workers' trials.
ENDED_LEAVE_S = 8.0


class OpenedRun(Protocol):
    """A run whose study is open, with either coordination.

    `start` gets the address to listen on (`bind`) and the one at which workers reach the driver (`host`). The caller
    calls `finish` of what it returns. If `start` was not called or failed, the caller calls `close`.
    """

    def start(self, bind: str, host: str) -> StartedRun: ...

    def close(self) -> None: ...


class StartedRun(Protocol):
    """A run whose workers may start. The caller calls `finish`, however the run ends; it tells how it ended."""

    @property
    def payload(self) -> WorkerPayload: ...

    def snapshot(self) -> Snapshot: ...

    def watch(self, snapshot: Snapshot) -> None: ...

    def stop_reason(self) -> str | None: ...

    def stop(self, reason: str) -> None: ...

    def told_to_end(self) -> str | None: ...

    def cut(self, error: str) -> None: ...

    def finish(self, ended_well: bool) -> Snapshot: ...


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its last snapshot, and why it stopped before all trials were run (None if it did not)."""

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
        spark: The session, or a function that makes it; with a function the study is opened while Spark starts. None
            only for the `local` distribution.
        secrets: The contents of the Airflow connection that `data.connection` names.
        callbacks: Told of the trials and of the run's end. With `coordination: database` they travel to the workers by
            pickle, so their modules must be importable there.

    In the main thread of a program that does not handle SIGTERM itself, SIGTERM ends the run in good order.

    Raises:
        RunEndedError: SIGTERM came.
        SpecError: What the objective refuses before any trial; or a connection is named and no secrets are given.
        TuningError: The run cannot start, too many trials failed, or the workers ended early.
    """
    _refuse_in_a_worker_that_imports_the_program()
    spec = spec.identified()
    check_objective(spec)
    if spec.data is not None and spec.data.connection and secrets is None:
        raise SpecError(
            f"data.connection {spec.data.connection!r} is an Airflow connection: start the run from Airflow"
        )
    with ENDING.during_a_run():
        return _told_run(spec, url, spark, secrets, Callbacks(callbacks))


def _told_run(
    spec: TuningSpec,
    url: str,
    spark: SparkSession | Callable[[], SparkSession] | None,
    secrets: DataSecrets | None,
    told: Callbacks,
) -> RunResult:
    """The run, of whose end the callbacks hear, however it ends."""
    try:
        result = _run(spec, url, spark, secrets, told)
    except BaseException as error:
        told.run_ended(str(error))
        raise
    else:
        told.run_ended(result.stop_reason)
        return result
    finally:
        with ENDING.tidying():  # callbacks still have calls to make, also after SIGTERM
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
    run, ended_well = _start(opened, session), False
    try:
        payload = replace(run.payload, data_secrets=_with_seen(spec, secrets or DataSecrets()))
        log.info("%s Starting %s workers (%s) for run %s", PREFIX, spec.tasks, spec.distribution, shown(spec.run_id))
        reports = _watch_while_launched(run, spec, payload, session)
        run.watch(run.snapshot())
        reason = run.stop_reason()
        ended_well = True
    finally:
        with ENDING.tidying():
            snapshot = run.finish(ended_well)
    log.info(progress_line(snapshot))
    write_progress(snapshot)
    _raise_if_short(spec, snapshot, reason, reports)
    log.info("%s Done in %s%s", PREFIX, duration(snapshot.elapsed_s), f": {reason}" if reason else "")
    return RunResult(snapshot, reason)


def _with_seen(spec: TuningSpec, secrets: DataSecrets) -> DataSecrets:
    """The secrets, with the version of a table in an object store, if workers read it themselves.

    Raises:
        DataError: The store does not give it, though the connection opens it.
    """
    if spec.data is None or not spec.data.is_store or spec.distribution == "dataframe":
        return secrets
    from optuna_spark.data.sources import seen_version  # loads Arrow, which most drivers have no use for

    try:
        return replace(secrets, seen=seen_version(spec.data, secrets))
    except DataError as error:
        if secrets.store:
            raise
        log.warning("Workers cannot tell whether they all read the same data, for the driver sees none: %s", error)
        return secrets


def _refuse_in_a_worker_that_imports_the_program() -> None:
    """Refuse a call of `tune` at import time in a `local` worker, where it would take the run over.

    The worker's process imports the program that started it, as `multiprocessing` always does without fork.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise TuningError(
            "tune() was called while a worker imported the program that runs it:"
            ' put the call under if __name__ == "__main__":'
        )


def _open(
    open_run: Callable[[], OpenedRun], spark: SparkSession | Callable[[], SparkSession] | None
) -> tuple[OpenedRun, SparkSession | None]:
    """Open the run's study, and make the session at the same time if `spark` is a function."""
    if not callable(spark):
        return open_run(), spark
    with ThreadPoolExecutor(1, "open") as pool:
        opening = pool.submit(open_run)
        try:
            session = spark()
            return opening.result(), session
        except BaseException:
            with ENDING.tidying():
                if opening.exception() is None:  # waits until the study is open, and can be closed
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
    """The address that the driver listens on, and the one at which workers reach it."""
    if spark is None:  # local workers only
        return "127.0.0.1", "127.0.0.1"
    host = spark.conf.get("spark.driver.host", "127.0.0.1") or "127.0.0.1"
    return spark.conf.get("spark.driver.bindAddress", host) or host, host


def _watch_while_launched(
    run: StartedRun, spec: TuningSpec, payload: WorkerPayload, spark: SparkSession | None
) -> list[WorkerReport]:
    launched, grace = _Launched(spec, payload, spark), Grace(spec.grace_s)
    waiting = None if spark is None else Waiting(spark.sparkContext, spec.wait_for_resources_s)
    try:
        while not launched.wait(min(PROGRESS_S, grace.left_s)):
            snapshot = run.snapshot()
            log.info(progress_line(snapshot))
            write_progress(snapshot)
            run.watch(snapshot)
            if (reason := run.told_to_end()) is None:
                grace.forget()
                if waiting is not None:
                    waiting.look()
            elif waiting is not None and not snapshot.running and waiting.is_idle():
                log.info("%s The run %s: no trial is running, so it ends now", PREFIX, how(reason))
                _end_tasks(launched, spark)
                return []
            elif grace.is_over(reason):
                _cut(run, launched, spark, grace.error)
                return []
    except RunEndedError as ended:
        run.stop(str(ended))
        if spec.coordination == "database":
            # These workers write to the study themselves, so they must be gone before their trials are closed.
            _cancel_jobs(spark)
            launched.wait(ENDED_LEAVE_S)
        raise
    except ResourcesError as error:
        run.stop(str(error))
        _end_tasks(launched, spark)  # they would wait for ever
        raise
    except TuningError:
        # The run has been stopped. Wait for the workers, so that no trial begins after its cleanup.
        launched.wait(LEAVE_S)
        raise
    return launched.reports()


def _cut(run: StartedRun, launched: _Launched, spark: SparkSession | None, error: str) -> None:
    """End a run in good order whose trials did not end in time: they fail, and their workers are ended."""
    log.warning("%s Trials that have not ended fail, and their tasks are cancelled: %s", PREFIX, error)
    run.cut(error)
    _end_tasks(launched, spark)


def _end_tasks(launched: _Launched, spark: SparkSession | None) -> None:
    _cancel_jobs(spark)
    launched.wait(CUT_LEAVE_S)


def _cancel_jobs(spark: SparkSession | None) -> None:
    """End the workers, even in the middle of a trial."""
    if spark is None:
        end_workers()
        return
    try:
        spark.sparkContext.cancelAllJobs()
    except Exception as error:  # noqa: BLE001  # Spark's Java may be gone already, and its jobs with it
        log.info("%s Spark had ended before: %s", PREFIX, type(error).__name__)


class _Launched(threading.Thread):
    """Runs `launch`, which blocks until all workers have ended, while the main thread watches the run."""

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
    """Raise the first worker's error if the workers ended before all trials were run, and nothing stopped the run."""
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
