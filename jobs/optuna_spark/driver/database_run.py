"""The driver's part of `coordination: database`: it prepares the run, watches it, and closes it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from optuna_spark.driver.progress import Snapshot
from optuna_spark.errors import StudyGoneError, TrialLimitError
from optuna_spark.objectives.registry import max_steps, value_names
from optuna_spark.sampling.fits_study import check_search_space
from optuna_spark.sampling.open_study import open_study
from optuna_spark.sampling.search_space import distributions
from optuna_spark.shared_study.claims import make_tables
from optuna_spark.shared_study.shared_run import SharedRun, new_key
from optuna_spark.shared_study.tally import Tally
from optuna_spark.shown import shown
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import LOST, should_terminate
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.storage.run_marks import ENDED_EARLY, FINISH, finished_early, mark, with_mark
from optuna_spark.storage.study_writer import check_schema
from optuna_spark.trial_callback import Callbacks, TrialCallback
from optuna_spark.wire.payload import WorkerPayload


class OpenedDatabaseRun:
    """The study, opened by the driver, which makes it and the tables where they are missing."""

    def __init__(self, spec: TuningSpec, url: str, callbacks: Callbacks) -> None:
        self._spec, self._url, self._callbacks = spec, url, callbacks
        storage = create_storage(url)
        try:
            check_schema(storage)
            open_study(spec, storage, value_names(spec), max_steps(spec))
            make_tables(storage.engine)
        finally:
            close_storage(storage)
        self._run = SharedRun.open(spec, url, new_key(), callbacks)

    def start(self, bind: str, host: str) -> DatabaseRun:
        """Prepare the run for its workers. `bind` and `host` are not used: no worker connects to the driver."""
        return DatabaseRun(self._spec, self._url, self._run, self._callbacks.registered)

    def close(self) -> None:
        """Leave no trial running. Call it once all workers have ended."""
        self._run.finish()
        self._run.close()


class DatabaseRun:
    """A run whose workers may start. Not thread-safe.

    Attributes:
        payload: What the workers are started with.
    """

    def __init__(self, spec: TuningSpec, url: str, run: SharedRun, callbacks: tuple[TrialCallback, ...]) -> None:
        self._spec, self._run, self._storage = spec, run, run.storage
        known = self._storage.stored_distributions
        check_search_space(spec.study_name, distributions(spec.search_space), known)
        self._started = time.monotonic()
        self._told_to_end: str | None = None
        self._cut = LOST  # the error of the trials that workers leave behind
        run.start()
        self._tally = Tally(spec.trials)
        self._before = self._read().finished
        self.payload = WorkerPayload(spec.to_json(), run.claims.key, storage_url=url, callbacks=callbacks)

    def snapshot(self) -> Snapshot:
        """Where the run stands, read from the database.

        Raises:
            StudyGoneError: The study was deleted.
        """
        if self._run.is_gone():
            self._run.stop("the study was deleted")
            raise StudyGoneError.of(self._spec.study_name)
        return self._standing(*self._read_all())

    def watch(self, snapshot: Snapshot) -> None:
        """Stop the run if its time is over, somebody has told it to finish, or nothing improves.

        Its other limits need no watching: whoever ends a trial checks them.

        Raises:
            TrialLimitError: Too many trials failed.
        """
        spec, tally = self._spec, self._read()
        if tally.broken:
            raise TrialLimitError(tally.stop_reason or "")
        if tally.spent >= tally.trials:
            return
        if spec.timeout_s is not None and snapshot.elapsed_s > spec.timeout_s:
            self._end_soon(finished_early(f"timeout_s ({spec.timeout_s:g} s)"))
        elif (by := mark(self._marks(FINISH), spec.run_id)) is not None:
            self._end_soon(finished_early(shown(by)))
        if spec.stop.terminator and snapshot.finished and not tally.over and self._should_terminate():
            self._run.stop("Optuna's terminator expects no further improvement")

    def stop_reason(self) -> str | None:
        return self._read().stop_reason

    def stop(self, reason: str) -> None:
        """Start no further trial; running trials may end."""
        self._run.stop(reason)

    def told_to_end(self) -> str | None:
        """Why the running trials, too, must end soon; None while they have all the time they need."""
        return self._tally.early_end or self._told_to_end

    def cut(self, error: str) -> None:
        """Let `finish` fail the running trials with this error: their time is over. The caller ends their workers."""
        self._cut = error

    def finish(self, ended_well: bool) -> Snapshot:
        """Close the trials that workers left running. Call it once all workers have ended, or were told to.

        Args:
            ended_well: Whether the run needs no other try. One that does is still to heed a request to finish.

        Returns:
            Where the run stands with these trials counted.
        """
        try:
            last, cut = self._run.finish(self._cut)
            self._tally = last or self._tally
            if not self._run.is_gone():
                self._note_end(self._tally.stop_reason, ended_well)
            return self._standing(replace(self._tally, failed=self._tally.failed + cut), running=0)
        finally:
            self._run.close()

    def _read(self) -> Tally:
        return self._read_all()[0]

    def _read_all(self) -> tuple[Tally, int]:
        """The counts, the last ones that were read once the run's rows are gone; and how many trials run."""
        tally, running = self._run.tally()
        self._tally = tally or self._tally
        return self._tally, len(running)

    def _standing(self, tally: Tally, running: int) -> Snapshot:
        return Snapshot(
            total=self._spec.trials,
            finished=tally.finished,
            failed=tally.failed,
            pruned=tally.pruned,
            running=running,
            elapsed_s=time.monotonic() - self._started,
            finished_before=self._before,
            best_value=tally.best_value,
            best_number=tally.best_number,
        )

    def _end_soon(self, reason: str) -> None:
        if self._told_to_end is None:
            self._told_to_end = reason
            self._run.stop(reason)

    def _note_end(self, reason: str | None, heeded: bool) -> None:
        """Note in the study why the run ended early, if it did, and forget a request to finish that was heeded."""
        run_id = self._spec.run_id
        if heeded and mark(marks := self._marks(FINISH), run_id) is not None:
            self._set_marks(FINISH, with_mark(marks, run_id, None))
        if reason is not None or mark(self._marks(ENDED_EARLY), run_id) is not None:
            self._set_marks(ENDED_EARLY, with_mark(self._marks(ENDED_EARLY), run_id, reason))

    def _marks(self, key: str) -> Any:
        return self._storage.get_study_system_attrs(self._storage.memory_id).get(key)

    def _set_marks(self, key: str, marks: dict[str, str]) -> None:
        self._storage.set_study_system_attr(self._storage.memory_id, key, marks)

    def _should_terminate(self) -> bool:
        self._storage.look_now_and_then()
        everything = self._storage.everything(self._storage.memory_id)
        return should_terminate(everything, self._storage.get_study_directions(self._storage.memory_id))
