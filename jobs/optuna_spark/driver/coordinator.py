"""The driver's part of a run it coordinates: the study in memory, a port for the workers, one writer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from optuna_spark.driver.dispatcher import Ledger
from optuna_spark.driver.progress import Snapshot
from optuna_spark.driver.request_handler import Desk
from optuna_spark.driver.server import WorkerServer
from optuna_spark.driver.study import StoredStudy
from optuna_spark.errors import StorageError, TuningError
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.connection import Database
from optuna_spark.storage.group_commit import Committer
from optuna_spark.storage.optuna_storage import create_storage, explain, open_study
from optuna_spark.storage.study_writer import StudyWriter
from optuna_spark.storage.trial_record import TrialRecord
from optuna_spark.storage.writer_process import WriterProcess
from optuna_spark.wire.frames import new_secret
from optuna_spark.wire.messages import Greeting
from optuna_spark.wire.payload import WorkerPayload

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """Where the workers find the driver, and what proves that they are this run's."""

    host: str
    port: int
    secret: bytes = field(repr=False)


class Coordinator:
    """Runs a study in this process for workers elsewhere. Its methods may be called from any thread.

    Use it as a context manager, or call `finish` whatever happens after `open`.

    Args:
        spec: The run.
        url: Storage URL of the study, which is created where it does not exist.
    """

    def __init__(self, spec: TuningSpec, url: str | sa.URL) -> None:
        self._spec, self._url = spec, url
        self._secret = new_secret()
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._ready, self._done = threading.Event(), threading.Event()
        self._writer: WriterProcess | None = None
        self._committer: Committer | None = None
        self._closing: asyncio.Event | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._address: tuple[str, int] | None = None
        self._error: Exception | None = None

    def open(self) -> None:
        """Load the study, and resume the run if it was begun before.

        Raises:
            TuningError: The database, the study or the spec does not permit it.
        """
        writer, stored = self._load()
        self._writer = WriterProcess(writer)
        self._committer = Committer(self._writer, self._explain, self._on_storage_failure)
        try:
            self._ledger = Ledger(self._spec, stored, self._committer)
        except BaseException:
            self.finish()
            raise
        self._finished_before = self._ledger.budget.finished

    def start(self, host: str = "127.0.0.1") -> Endpoint:
        """Listen for workers; opens the study where that was not done before.

        Args:
            host: Address to listen on; for Spark the driver's.

        Raises:
            TuningError: As `open`, or the port is taken.
        """
        self._started = time.monotonic()
        if self._writer is None:
            self.open()
        self._host = host
        self._thread.start()
        self._ready.wait()
        if self._address is None:
            self.finish()
            raise self._error or TuningError("the coordinator ended at its start")
        return Endpoint(*self._address, secret=self._secret)

    def snapshot(self) -> Snapshot:
        """Where the run stands; costs nothing."""
        ledger = self._ledger
        best = ledger.best
        return Snapshot(
            total=self._spec.trials,
            finished=ledger.budget.finished,
            failed=ledger.budget.failed,
            running=ledger.running,
            elapsed_s=time.monotonic() - self._started,
            finished_before=self._finished_before,
            best_value=best.value if best else None,
            best_number=best.number if best else None,
        )

    def stop_reason(self) -> str | None:
        """Why no further trial is started although some are left; None while that is not so."""
        return self._ledger.budget.reason

    def raise_if_failed(self) -> None:
        """Raise why the run failed, if it did.

        Raises:
            TrialLimitError: Too many trials failed.
            StorageError: The database failed for good, or somebody else writes to the study.
            TuningError: The sampler failed.
        """
        if self._ledger.budget.error is not None:
            raise self._ledger.budget.error

    def wait_finished(self, timeout_s: float | None = None) -> bool:
        """Wait until the run has failed, or no trial is running and none will be started."""
        return self._done.wait(timeout_s)

    def stop(self, reason: str) -> None:
        """Start no further trial; those that run may end."""
        self._in_loop(self._ledger.budget.stop, reason)

    def finish(self) -> None:
        """Close the port and leave nothing unwritten and no trial running; safe to call twice.

        Does not raise; what could not be written any more is what `raise_if_failed` raises afterwards.
        """
        if self._closing is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()
        if self._committer is not None:
            self._committer.close()
            if self._committer.error is not None:
                self._ledger.budget.fail(self._committer.error)
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def _load(self) -> tuple[StudyWriter, StoredStudy]:
        database = Database(self._url)
        try:
            storage = create_storage(self._url)
            study = open_study(self._spec, storage)
            writer = StudyWriter(storage, database, self._spec.study_name, self._spec.run_id)
            writer.take_over()
            trials = study.get_trials(deepcopy=False)
            open_trials = [t for t in trials if not t.state.is_finished()]
            writer.resume([TrialRecord.of(t, t.datetime_start) for t in open_trials])
            study_id = storage.get_study_id_from_name(self._spec.study_name)
            return writer, StoredStudy(study.directions, trials, storage.get_study_system_attrs(study_id))
        except (SQLAlchemyError, database.driver_error) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> StorageError:
        return explain(error, self._url)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001  # raised again by start
            self._error = error
            self._ready.set()
            self._done.set()

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._desk = Desk(self._ledger, self._on_change)
        server = WorkerServer(self._desk, self._secret, self._spec.coordinator.heartbeat_s, self._greeting())
        try:
            self._address = await server.start(self._host, self._spec.coordinator.port)
            self._on_change()
            if self._spec.timeout_s is not None:
                reason = f"the timeout of {self._spec.timeout_s:g} s was reached"
                self._loop.call_later(self._spec.timeout_s, self.stop, reason)
            self._ready.set()
            await self._closing.wait()
        finally:
            await server.close()
            await self._desk.do(self._ledger.close)
            self._desk.close()

    def _greeting(self) -> Greeting:
        spec = self._spec
        heartbeat_s = spec.coordinator.heartbeat_s
        return Greeting(spec.study_name, spec.directions, heartbeat_s, distributions(spec.search_space))

    def _on_storage_failure(self, error: StorageError) -> None:
        self._in_loop(self._ledger.budget.fail, error)

    def _in_loop(self, change: Callable[[T], None], value: T) -> None:
        """Make a change in the Optuna thread, where all of them are made."""

        def begin() -> None:
            self._tasks.append(self._loop.create_task(self._desk.do(change, value)))

        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            self._loop.call_soon_threadsafe(begin)

    def _on_change(self) -> None:
        if self._desk.done:
            self._done.set()


class DriverRun:
    """The driver's side of `coordination: driver`: the coordinator as `run.tune` uses it.

    Args:
        spec: The run.
        url: Storage URL of the study.
    """

    def __init__(self, spec: TuningSpec, url: str) -> None:
        self._spec = spec
        self._coordinator = Coordinator(spec, url)

    def open(self) -> None:
        self._coordinator.open()

    def start(self, bind: str, host: str) -> WorkerPayload:
        endpoint = self._coordinator.start(bind)
        return WorkerPayload(self._spec.to_json(), driver=(host, endpoint.port), secret=endpoint.secret)

    def snapshot(self) -> Snapshot:
        return self._coordinator.snapshot()

    def watch(self, snapshot: Snapshot) -> None:
        """The coordinator stops by itself; this raises why it failed, if it did."""
        self._coordinator.raise_if_failed()

    def stop_reason(self) -> str | None:
        return self._coordinator.stop_reason()

    def stop(self, reason: str) -> None:
        self._coordinator.stop(reason)

    def finish(self) -> None:
        self._coordinator.finish()
        # The last write may have failed only now.
        self._coordinator.raise_if_failed()
