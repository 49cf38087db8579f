"""A run that the driver coordinates. `LoadedRun` has the study in memory, `ServingRun` serves workers as well."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from optuna_spark.database.connection import Database
from optuna_spark.database.mysql_errors import explain
from optuna_spark.driver.dispatch.assignments import Assignments
from optuna_spark.driver.dispatch.study import StoredStudy
from optuna_spark.driver.progress import Snapshot
from optuna_spark.driver.request_handler import RequestHandler
from optuna_spark.driver.server import WorkerServer
from optuna_spark.errors import StorageError
from optuna_spark.objectives.registry import max_steps, value_names
from optuna_spark.sampling.open_study import open_study
from optuna_spark.sampling.search_space import distributions
from optuna_spark.shared_study.trial_reader import read_trials
from optuna_spark.shown import shown
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.group_commit import Committer
from optuna_spark.storage.optuna_storage import create_storage
from optuna_spark.storage.run_marks import ENDED_EARLY, FINISH, finished_early, mark, with_mark
from optuna_spark.storage.study_writer import StudyWriter
from optuna_spark.storage.trial_record import TrialRecord
from optuna_spark.storage.writer_process import WriterProcess
from optuna_spark.trial_callback import NOBODY, TrialCallback
from optuna_spark.wire.messages import Greeting
from optuna_spark.wire.payload import WorkerPayload
from optuna_spark.wire.sealing import new_secret

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """Where the workers reach the driver, and the secret with which they prove that they belong to the run."""

    host: str
    port: int
    secret: bytes = field(repr=False)


class LoadedRun:
    """A study in memory, ready to be served. A run that began earlier is resumed.

    What resuming changes (lost trials, queued points) is written from now on, before any worker connects. Call `close`,
    or `finish` of what `start` returns.

    Args:
        spec: The run.
        url: Storage URL of the study. The study is created if it does not exist.
        callbacks: Told of the run's trials.

    Raises:
        TuningError: The database, the study or the spec does not permit the run.
    """

    def __init__(self, spec: TuningSpec, url: str | sa.URL, callbacks: TrialCallback = NOBODY) -> None:
        self.spec = spec
        self._failure = _StorageFailure()
        writer, stored = _load(spec, url)
        self._finish, self._ended = stored.system_attrs.get(FINISH), stored.system_attrs.get(ENDED_EARLY)
        self._writer = WriterProcess(writer)
        self._committer = Committer(self._writer, partial(explain, url=url), self._failure.report, self._look)
        try:
            self.trials = Assignments(spec, stored, self._committer, callbacks)
        except BaseException:
            self.close()  # the writer is a process, which would otherwise stay
            raise

    @property
    def storage_error(self) -> StorageError | None:
        """Why nothing is written any more; None while writing works."""
        return self._committer.error

    @property
    def finish_asked_by(self) -> str | None:
        """Who has asked this run to finish early, as the database said a few seconds ago at most."""
        return mark(self._finish, self.spec.run_id)

    def note_end(self, reason: str | None, heeded: bool) -> None:
        """Note in the study why the run ended early, if it did. `close` writes it.

        A run that went on after such an end loses its note.

        Args:
            reason: Why it ended early; None if it did not.
            heeded: Whether a request to finish is done with.
        """
        attrs: dict[str, Any] = {}
        if heeded and self.finish_asked_by is not None:
            attrs[FINISH] = with_mark(self._finish, self.spec.run_id, None)
        if reason is not None or mark(self._ended, self.spec.run_id) is not None:
            attrs[ENDED_EARLY] = with_mark(self._ended, self.spec.run_id, reason)
        self._committer.put_attrs(attrs)

    def _look(self) -> None:
        self._finish = self._writer.study_attr(FINISH)

    def start(self, bind: str = "127.0.0.1", host: str | None = None) -> ServingRun:
        """Listen for workers.

        Args:
            bind: Address to listen on; on Spark the driver's.
            host: Address at which workers reach the driver; by default `bind`.

        Raises:
            StorageError: What resuming changed could not be written.
            TuningError: The port is taken.
        """
        if self.storage_error is not None:
            raise self.storage_error
        ready: Future[ServingRun] = Future()
        threading.Thread(target=_run, args=(self, bind, host, ready), name="coordinator", daemon=True).start()
        try:
            run = ready.result()
        except BaseException:
            # If SIGTERM interrupted the wait, the thread goes on: what it makes must be closed.
            ready.add_done_callback(_close_unwanted)
            raise
        self._failure.tell(run.fail)
        return run

    def close(self) -> None:
        """Write what is left, then end the writer. Safe to call twice."""
        self._committer.close()  # first, because it writes through the writer
        self._writer.close()


class ServingRun:
    """A run that serves workers. Made in its event loop; other threads may call its methods.

    Attributes:
        endpoint: Where the workers reach the driver.

    Args:
        loaded: The study; `close` closes it.
        endpoint: Where the workers reach the driver.
        handler: Answers the workers.
        done: Set once the run has failed, or no trial is running and none will be started.
    """

    def __init__(self, loaded: LoadedRun, endpoint: Endpoint, handler: RequestHandler, done: threading.Event) -> None:
        self.endpoint = endpoint
        self._loaded, self._spec, self._trials = loaded, loaded.spec, loaded.trials
        self._handler, self._done = handler, done
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._thread = threading.current_thread()
        self._told_to_end: str | None = None
        self._started = time.monotonic()
        self._finished_before = self._trials.budget.finished

    @property
    def payload(self) -> WorkerPayload:
        """What its workers are started with."""
        address = (self.endpoint.host, self.endpoint.port)
        return WorkerPayload(self._spec.to_json(), driver=address, secret=self.endpoint.secret)

    def snapshot(self) -> Snapshot:
        """Where the run stands. Reads memory only, so it may be called often."""
        trials = self._trials
        best = trials.best
        return Snapshot(
            total=self._spec.trials,
            finished=trials.budget.finished,
            failed=trials.budget.failed,
            pruned=trials.budget.pruned,
            running=trials.running,
            elapsed_s=time.monotonic() - self._started,
            finished_before=self._finished_before,
            best_value=best.value if best else None,
            best_number=best.number if best else None,
        )

    def watch(self, snapshot: Snapshot) -> None:
        """Raise the run's error if it has failed, and heed a request to finish.

        Its limits need no watching here: Assignments checks them itself.
        """
        self.raise_if_failed()
        if self._is_spent():
            return
        if self._told_to_end is None and (by := self._loaded.finish_asked_by) is not None:
            self._end_soon(finished_early(shown(by)))

    def told_to_end(self) -> str | None:
        """Why the running trials, too, must end soon; None while they have all the time they need."""
        return self._trials.budget.early_end or self._told_to_end

    def cut(self, error: str) -> None:
        """Fail the running trials with this error: their time is over. The caller ends their workers."""
        asyncio.run_coroutine_threadsafe(self._handler.cut(error), self._loop).result()

    def stop_reason(self) -> str | None:
        """Why no further trial is started although some are left; None while trials may start."""
        return self._trials.budget.reason

    def raise_if_failed(self) -> None:
        """Raise the run's error if it has failed.

        Raises:
            TrialLimitError: Too many trials failed.
            StorageError: The database failed for good, or another process writes to the study.
            TuningError: The sampler failed.
        """
        if self._trials.budget.error is not None:
            raise self._trials.budget.error

    def wait_finished(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has failed, or no trial is running and none will be started."""
        return self._done.wait(timeout_s)

    def stop(self, reason: str) -> None:
        """Start no further trial; running trials may end."""
        self._in_loop(self._handler.stop, reason)

    def fail(self, error: StorageError) -> None:
        """End the run, because nothing can be written any more."""
        self._in_loop(self._handler.fail, error)

    def close_port(self) -> None:
        """Begin to close the port; does not wait."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the port is closed
            self._loop.call_soon_threadsafe(self._closing.set)

    def close(self, ended_well: bool = True) -> None:
        """Close the port, fail the trials that still run, and write what is left. Safe to call twice.

        Args:
            ended_well: Whether the run needs no other try. One that does is still to heed a request to finish.

        Does not raise. If the last write failed, `raise_if_failed` raises that afterwards.
        """
        self.close_port()
        self._thread.join()
        self._loaded.note_end(self._trials.budget.reason, ended_well)
        self._loaded.close()
        if self._loaded.storage_error is not None:
            self._trials.budget.fail(self._loaded.storage_error)

    def finish(self, ended_well: bool) -> Snapshot:
        """Close the run, then raise its error if it has one: the last write may have failed while closing."""
        self.close(ended_well)
        self.raise_if_failed()
        return self.snapshot()

    async def until_closed(self) -> None:
        """Return once `close` was called. Runs in the event loop."""
        if self._spec.timeout_s is not None:
            reason = finished_early(f"timeout_s ({self._spec.timeout_s:g} s)")
            self._loop.call_later(self._spec.timeout_s, self._end_soon, reason)
        await self._closing.wait()

    def _is_spent(self) -> bool:
        """Whether all trials have been run, so that the run ends by itself."""
        budget = self._trials.budget
        return budget.finished + (budget.failed if self._spec.stop.failures_count else 0) >= self._spec.trials

    def _end_soon(self, reason: str) -> None:
        if self._is_spent():
            return
        self._told_to_end = self._told_to_end or reason
        self.stop(reason)

    def _in_loop(self, function: Callable[[T], None], value: T) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            self._loop.call_soon_threadsafe(function, value)


class _StorageFailure:
    """Passes the committer's final error on to the run that serves workers.

    The committer may fail before that run exists, so the error and its listener may come in either order. The lock
    makes sure that exactly one of `report` and `tell` sees both.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: StorageError | None = None
        self._listener: Callable[[StorageError], None] | None = None

    def report(self, error: StorageError) -> None:
        with self._lock:
            self._error, listener = error, self._listener
        if listener is not None:
            listener(error)

    def tell(self, listener: Callable[[StorageError], None]) -> None:
        with self._lock:
            self._listener, error = listener, self._error
        if error is not None:
            listener(error)


def _load(spec: TuningSpec, url: str | sa.URL) -> tuple[StudyWriter, StoredStudy]:
    database = Database(url)
    try:
        storage = create_storage(url)
        study = open_study(spec, storage, value_names(spec), max_steps(spec))
        writer = StudyWriter(storage, database, spec.study_name, spec.run_id)
        writer.take_over()  # before the study is read: a forgotten driver cannot change it afterwards
        study_id = storage.get_study_id_from_name(spec.study_name)
        with database.transaction() as transaction:
            trials = sorted(read_trials(transaction, study_id).values(), key=lambda trial: trial.number)
        open_trials = [t for t in trials if not t.state.is_finished()]
        writer.resume([TrialRecord.of(t, t.datetime_start) for t in open_trials])
        system, user = storage.get_study_system_attrs(study_id), storage.get_study_user_attrs(study_id)
        return writer, StoredStudy(study.directions, trials, system, user)
    except (SQLAlchemyError, database.driver_error) as error:
        raise explain(error, url) from error


def _run(loaded: LoadedRun, bind: str, host: str | None, ready: Future[ServingRun]) -> None:
    try:
        asyncio.run(_serve(loaded, bind, host, ready))
    except Exception as error:
        if ready.done():
            log.exception("The coordinator has failed")
        else:
            ready.set_exception(error)


async def _serve(loaded: LoadedRun, bind: str, host: str | None, ready: Future[ServingRun]) -> None:
    def on_change() -> None:
        if handler.done:
            done.set()

    spec, secret, done = loaded.spec, new_secret(), threading.Event()
    handler = RequestHandler(loaded.trials, on_change)
    server = WorkerServer(handler, secret, spec.coordinator.heartbeat_s, _greeting(spec))
    try:
        bound, port = await server.start(bind, spec.coordinator.port)
        run = ServingRun(loaded, Endpoint(host or bound, port, secret), handler, done)
        on_change()  # a resumed run may have nothing left to do
        ready.set_result(run)
        await run.until_closed()
    finally:
        # In this order: the handler's `close` fails the running trials, which no worker may tell any more.
        await server.close()
        await handler.close()


def _greeting(spec: TuningSpec) -> Greeting:
    return Greeting(spec.study_name, spec.directions, spec.coordinator.heartbeat_s, distributions(spec.search_space))


def _close_unwanted(ready: Future[ServingRun]) -> None:
    if ready.exception() is None:
        ready.result().close_port()
