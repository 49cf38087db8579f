"""The driver's part of `coordination: database`: it prepares the run, watches its limits, and stops it."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from optuna.trial import FrozenTrial, TrialState

from optuna_spark.driver.progress import Snapshot
from optuna_spark.errors import StudyGoneError, TrialLimitError
from optuna_spark.sampling.enqueue import new_sets
from optuna_spark.sampling.fits_study import check_search_space, stored_distributions
from optuna_spark.sampling.search_space import distributions
from optuna_spark.shown import shown
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import EXHAUSTED, LOST, broken_limit, reaches_target, should_terminate
from optuna_spark.storage.run_marks import ENDED_EARLY, FINISH, finished_early, mark, with_mark
from optuna_spark.storage.trial_marks import error_of, run_id_of
from optuna_spark.trial_callback import Callbacks, TrialCallback
from optuna_spark.wire.payload import WorkerPayload
from optuna_spark.worker.database_source import FINISHED, SharedStudy, close_abandoned, release

# How long a worker that is about to begin a trial is waited for; it may be dead.
ASKING_S = 4.0

P = ParamSpec("P")
R = TypeVar("R")


class OpenedDatabaseRun:
    """The study and the run's claims, opened by the driver."""

    def __init__(self, spec: TuningSpec, url: str, callbacks: Callbacks) -> None:
        self._spec, self._url, self._callbacks = spec, url, callbacks
        self._stored = SharedStudy.open(spec, url, run_key(spec), callbacks)

    def start(self, bind: str, host: str) -> DatabaseRun:
        """Prepare the run for its workers. `bind` and `host` are not used: no worker connects to the driver."""
        return DatabaseRun(self._spec, self._url, self._stored, self._callbacks.registered)

    def close(self) -> None:
        """Close the trials that workers left running. Call it once all workers have ended."""
        close_abandoned(self._stored)
        self._stored.close()


def _told_if_gone(method: Callable[Concatenate[DatabaseRun, P], R]) -> Callable[Concatenate[DatabaseRun, P], R]:
    """Let a method raise StudyGoneError where Optuna raises KeyError because the study was deleted."""

    @functools.wraps(method)
    def call(run: DatabaseRun, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(run, *args, **kwargs)
        except KeyError as error:
            if not run.is_gone():
                raise
            raise StudyGoneError.of(run.study_name) from error

    return call


class DatabaseRun:
    """A run whose workers may start. Not thread-safe.

    Attributes:
        payload: What the workers are started with.
    """

    def __init__(self, spec: TuningSpec, url: str, stored: SharedStudy, callbacks: tuple[TrialCallback, ...]) -> None:
        self._spec, self._stored = spec, stored
        self._study, self._claims = stored.study, stored.claims
        self._study_id = stored.storage.get_study_id_from_name(spec.study_name)
        known = stored_distributions(self._study.get_trials(deepcopy=False))
        check_search_space(spec.study_name, distributions(spec.search_space), known)
        self._started, self._started_at = time.monotonic(), datetime.now()  # as Optuna stores it
        self._told_to_end: str | None = None
        self._cut = LOST  # the error of the trials that workers leave behind
        self._claims.create(spec.trials)
        # No worker of this run lives yet: whatever an earlier start left claimed or running belongs to nobody.
        for claim in self._claims.held():
            release(stored, claim)
        close_abandoned(stored)
        for params in new_sets(spec.enqueue, self._study.get_trials(deepcopy=False)):
            self._study.enqueue_trial(dict(params))
        self._before = self._claims.counts().done
        history = len(self._study.get_trials(deepcopy=False))
        key = run_key(spec)
        self.payload = WorkerPayload(spec.to_json(), key, history, storage_url=url, callbacks=callbacks)

    @_told_if_gone
    def snapshot(self) -> Snapshot:
        """Where the run stands, read from the database."""
        counts = self._claims.counts()  # a claim is done when its trial finished, or failed and failures count
        best, ended = self._best(), self._mine(TrialState.FAIL, TrialState.PRUNED)
        failed = sum(trial.state == TrialState.FAIL for trial in ended)
        return Snapshot(
            total=self._spec.trials,
            finished=counts.done - (failed if self._spec.stop.failures_count else 0),
            failed=failed,
            pruned=len(ended) - failed,
            running=counts.claimed,
            elapsed_s=time.monotonic() - self._started,
            finished_before=self._before,
            best_value=None if best is None else best.value,
            best_number=None if best is None else best.number,
        )

    @_told_if_gone
    def watch(self, snapshot: Snapshot) -> None:
        """Stop the run if one of its limits is reached.

        Raises:
            TrialLimitError: Too many trials failed.
        """
        spec = self._spec
        if error := self._too_many_failures():
            self._claims.stop(str(error))
            raise error
        if snapshot.finished >= snapshot.total:
            return
        if spec.timeout_s is not None and snapshot.elapsed_s > spec.timeout_s:
            self._end_soon(finished_early(f"timeout_s ({spec.timeout_s:g} s)"))
        elif (by := mark(self._marks(FINISH), spec.run_id)) is not None:
            self._end_soon(finished_early(shown(by)))
        if (reason := self.stop_reason()) is not None:  # perhaps a worker's: its objective or sampler stopped the study
            self._told_to_end = self._told_to_end or (None if reason == EXHAUSTED else reason)
            return
        if reaches_target(spec, snapshot.best_value):
            self._end_soon(f"the target value {spec.stop.target_value:g} was reached")
        if spec.stop.terminator and snapshot.finished and self._should_terminate():
            self._end_soon("Optuna's terminator expects no further improvement")

    @property
    def study_name(self) -> str:
        return self._spec.study_name

    def is_gone(self) -> bool:
        """Whether the study was deleted, perhaps replaced by another one, since the run began. Stops the workers."""
        storage = self._stored.storage
        try:
            gone = storage.get_study_id_from_name(self.study_name) != self._study_id
        except KeyError:
            gone = True
        if gone:
            self._claims.stop("the study was deleted")
        return gone

    def stop_reason(self) -> str | None:
        return self._claims.stop_reason()

    def stop(self, reason: str) -> None:
        """Start no further trial; running trials may end."""
        self._claims.stop(reason)

    def told_to_end(self) -> str | None:
        """Why the running trials, too, must end soon; None while they have all the time they need."""
        return self._told_to_end

    def cut(self, error: str) -> None:
        """Let `finish` fail the running trials with this error: their time is over. The caller ends their workers."""
        self._cut = error

    @_told_if_gone
    def finish(self, ended_well: bool) -> Snapshot:
        """Close the trials that workers left running. Call it once all workers have ended, or were told to.

        Args:
            ended_well: Whether the run needs no other try. One that does is still to heed a request to finish.

        Returns:
            Where the run stands with these trials counted.
        """
        try:
            self._wait_for_asking_workers()
            last = self.snapshot()
            close_abandoned(self._stored, self._cut)
            self._note_end(ended_well)
            return replace(last, running=0, failed=len(self._mine(TrialState.FAIL)))
        finally:
            self._stored.close()

    def _end_soon(self, reason: str) -> None:
        if self._told_to_end is None:
            self._told_to_end = reason
            if self.stop_reason() is None:
                self._claims.stop(reason)

    def _note_end(self, heeded: bool) -> None:
        """Note in the study why the run ended early, if it did, and forget a request to finish that was heeded."""
        reason, run_id = self.stop_reason(), self._spec.run_id
        if heeded and mark(marks := self._marks(FINISH), run_id) is not None:
            self._set_marks(FINISH, with_mark(marks, run_id, None))
        if reason is not None or mark(self._marks(ENDED_EARLY), run_id) is not None:
            self._set_marks(ENDED_EARLY, with_mark(self._marks(ENDED_EARLY), run_id, reason))

    def _marks(self, key: str) -> Any:
        storage = self._stored.storage
        return storage.get_study_system_attrs(storage.get_study_id_from_name(self._spec.study_name)).get(key)

    def _set_marks(self, key: str, marks: dict[str, str]) -> None:
        storage = self._stored.storage
        storage.set_study_system_attr(storage.get_study_id_from_name(self._spec.study_name), key, marks)

    def _wait_for_asking_workers(self) -> None:
        """Wait until no worker is about to begin a trial, which nobody would close.

        A run that is ended has its workers killed, which Spark does a moment after it has said so. One that took its
        claim before the run was stopped may still make a trial of it. Its claim has a trial's number then.
        """
        deadline = time.monotonic() + ASKING_S
        while any(claim.trial is None for claim in self._claims.held()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _best(self) -> FrozenTrial | None:
        if len(self._spec.directions) > 1:
            return None
        try:
            return self._study.best_trial
        except ValueError:  # no trial is complete yet
            return None

    def _should_terminate(self) -> bool:
        return should_terminate(self._study.get_trials(deepcopy=False), self._study.directions)

    def _mine(self, *states: TrialState) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [t for t in trials if run_id_of(t) == self._spec.run_id]

    def _too_many_failures(self) -> TrialLimitError | None:
        ended = sorted(self._mine(TrialState.FAIL, *FINISHED), key=_ended_at)
        # Lost trials are nobody's fault, and failures of an earlier start would fail a resumed run at once.
        since = [t for t in ended if not _lost(t) and t.datetime_complete and t.datetime_complete >= self._started_at]
        return failure_limit_error(self._spec, since)


def failure_limit_error(spec: TuningSpec, ended: list[FrozenTrial]) -> TrialLimitError | None:
    """The error of a run with too many failures; None if it has not. `ended` holds trials in the order they ended."""
    failures = [t for t in ended if t.state == TrialState.FAIL]
    in_a_row = 0
    for trial in reversed(ended):
        if trial.state != TrialState.FAIL:
            break
        in_a_row += 1
    rule = broken_limit(spec.stop, len(failures), in_a_row)
    if rule is None:
        return None
    first = failures[0]
    return TrialLimitError(f"{rule}; the first, trial {first.number}: {error_of(first) or ''}")


def run_key(spec: TuningSpec) -> str:
    """The key of a run's claims. A hash, because study name and run id may be longer than the column."""
    return hashlib.sha256(f"{spec.study_name}\n{spec.run_id}".encode()).hexdigest()


def _ended_at(trial: FrozenTrial) -> float:
    return trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0


def _lost(trial: FrozenTrial) -> bool:
    return error_of(trial) == LOST
