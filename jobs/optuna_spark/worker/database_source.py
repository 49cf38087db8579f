"""Trials from the database, with `coordination: database`: each worker opens the storage itself."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from optuna_spark.database.retries import retried
from optuna_spark.objectives.registry import max_steps, value_names
from optuna_spark.sampling.enqueue import queued_trial
from optuna_spark.sampling.open_study import join_study, open_study
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import EXHAUSTED, LOST, is_forgiven, stopped_by
from optuna_spark.storage import trial_marks
from optuna_spark.storage.claims import Claim, Claims
from optuna_spark.storage.optuna_storage import close_storage, create_storage, set_trial_marks
from optuna_spark.trial_callback import NOBODY, Callbacks
from optuna_spark.wire.frames import SILENT_BEATS
from optuna_spark.wire.messages import Outcome
from optuna_spark.worker.database_trial import DatabaseTrial
from optuna_spark.worker.study import WorkerStudy

log = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
WAIT_S = 0.5  # between two looks for a free claim


@dataclass(frozen=True)
class SharedStudy:
    """One process's access to the run in the database: its study, its claims, and the callbacks of this process."""

    spec: TuningSpec
    storage: RDBStorage
    study: optuna.Study
    claims: Claims
    callbacks: Callbacks

    @classmethod
    def open(cls, spec: TuningSpec, url: str, key: str, callbacks: Callbacks = NOBODY) -> SharedStudy:
        """Open the study in the driver, which creates tables and study if they are missing."""
        storage = create_storage(url)
        study = open_study(spec, storage, value_names(spec), max_steps(spec))
        claims = Claims(storage.engine, key)
        let_stop(study, claims, EXHAUSTED)
        return cls(spec, storage, study, claims, callbacks)

    @classmethod
    def join(cls, spec: TuningSpec, url: str, key: str, seed: int | None, callbacks: Callbacks = NOBODY) -> SharedStudy:
        """Open the study in a worker, once the driver has called `open`."""
        storage = create_storage(url, prepared=True)
        study, claims = join_study(spec, storage, seed, max_steps(spec)), Claims(storage.engine, key)
        let_stop(study, claims, EXHAUSTED)
        return cls(spec, storage, study, claims, callbacks)

    @functools.cached_property
    def study_id(self) -> int:
        return self.storage.get_study_id_from_name(self.spec.study_name)

    def close(self) -> None:
        """Close the storage's connections, which the claims use too."""
        close_storage(self.storage)


class DatabaseSource:
    """A TrialSource over Optuna's RDBStorage and the run's claims.

    One thread uses it. Another one renews the claim that is held, so that no other worker takes it over.
    """

    def __init__(self, stored: SharedStudy, worker: str) -> None:
        self._stored, self._worker = stored, worker
        self._spec, self._study, self._claims = stored.spec, stored.study, stored.claims
        self._shown = WorkerStudy(stored.study, partial(stored.claims.stop, stopped_by(worker)))
        self._marks: dict[str, Any] = {}  # of the trial that this worker has
        self._held: Claim | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watch = StaleWatch(SILENT_BEATS * stored.spec.coordinator.heartbeat_s)
        threading.Thread(target=self._beat, daemon=True, name="claim-beat").start()

    def ask(self) -> optuna.Trial | None:
        claim = self._next_claim()
        if claim is None:
            return None
        # If `ask` is tried again, its first try may have left a trial behind. The driver closes that at the end.
        trial = DatabaseTrial(retried(self._study.ask)(), self._shown, self._stored.callbacks)
        self._marks = trial_marks.begun(self._spec.run_id, self._worker, datetime.now())
        set_trial_marks(trial.storage, self._stored.study_id, trial.number, self._marks)
        self._hold(self._claims.change(claim, "claimed", self._worker, trial.number))
        self._stored.callbacks.trial_started(trial.number)
        return trial

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        marks = trial_marks.ended(self._marks, datetime.now())
        if outcome.error is not None:
            marks |= trial_marks.failed(outcome.error)
        note(trial.storage, self._stored.study_id, trial.number, marks)
        values = None if outcome.values is None else list(outcome.values)
        ended = self._study.tell(trial, values, state=outcome.state, skip_if_finished=True)
        self._stored.callbacks.trial_ended(ended)
        # A driver that is being ended fails the trials that still run, perhaps this one. Then its claim becomes free.
        lost = ended.state == TrialState.FAIL and outcome.state != TrialState.FAIL
        spent = not lost and (outcome.state in FINISHED or self._spec.stop.failures_count)
        with self._lock:  # the beats must not renew a claim that is being given back
            held, self._held = self._held, None
        if held is not None:
            self._claims.change(held, "done" if spent else "free", self._worker, trial.number)

    def close(self) -> None:
        self._closed.set()
        self._stored.close()
        self._stored.callbacks.close()

    def _next_claim(self) -> Claim | None:
        # No claim is free. One that another worker holds may become free, when its trial fails or its worker dies.
        while (claim := self._claims.take_free(self._worker)) is None:
            held = self._claims.held()
            if not held or self._claims.stop_reason() is not None:
                return None
            for stale in self._watch.stale(held):
                release(self._stored, stale)
            time.sleep(WAIT_S)
        return claim

    def _hold(self, claim: Claim | None) -> None:
        with self._lock:
            self._held = claim

    def _beat(self) -> None:
        while not self._closed.wait(self._spec.coordinator.heartbeat_s):
            try:
                with self._lock:
                    if self._held is not None:
                        held = self._held
                        self._held = self._claims.change(held, "claimed", held.worker, held.trial)
            except DBAPIError as error:
                # The next beat tries again. Others take the claim over only after six missed beats.
                log.warning("The claim on a trial could not be renewed: %s", error)


def let_stop(study: optuna.Study, claims: Claims, reason: str) -> None:
    """Let a sampler end the run by `study.stop()`. Optuna's own works within `study.optimize` alone.

    Args:
        study: Samplers call it when they have tried everything.
        claims: The run's.
        reason: Why it ends.
    """
    setattr(study, "stop", partial(claims.stop, reason))  # noqa: B010  # a method's name cannot be assigned to


class StaleWatch:
    """Finds claims that have not changed for `grace_s` seconds of this process's clock.

    Comparing with another machine's clock would need clocks that agree.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._seen: dict[int, tuple[int, float]] = {}

    def stale(self, held: Iterable[Claim]) -> list[Claim]:
        now, result = time.monotonic(), []
        for claim in held:
            version, since = self._seen.get(claim.slot, (-1, now))
            if version != claim.version:
                self._seen[claim.slot] = (claim.version, now)
            elif now - since > self._grace_s:
                result.append(claim)
        return result


def release(stored: SharedStudy, claim: Claim) -> None:
    """Take over the claim of a dead worker: done if its trial has finished; else the trial fails, the claim is free."""
    mine = stored.claims.change(claim, "claimed", "taken over", claim.trial)
    if mine is None:  # its worker lives, or another one was faster
        return
    trial = None if claim.trial is None else _find(stored.study, claim.trial)
    if trial is not None and not trial.state.is_finished():
        # The worker may only be slow, and tell its trial at this moment. Whichever is stored first counts.
        trial = close_lost(stored, trial)
    told = trial is not None and trial.state in FINISHED
    stored.claims.change(mine, "done" if told else "free", "", claim.trial)


def close_lost(stored: SharedStudy, trial: FrozenTrial, error: str = LOST) -> FrozenTrial:
    """Fail a trial that no worker runs any more, and queue its parameters again, a few times at most.

    Args:
        stored: The study.
        trial: The trial.
        error: Its error. With another one than LOST its parameters are not queued again.

    Returns:
        The trial as it is stored now. Its state is not FAIL if its worker finished it meanwhile.
    """
    log.warning("Trial %s was left running; closing it: %s", trial.number, error)
    marks = trial_marks.ended(trial_marks.abandoned(trial, error), datetime.now())
    note(stored.storage, stored.study_id, trial.number, marks)
    closed = stored.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    stored.callbacks.trial_ended(closed)
    if closed.params and is_forgiven(closed, stored.spec.stop):
        stored.study.add_trial(queued_trial(closed.params, trial_marks.next_try(closed)))
    return closed


def note(storage: BaseStorage, study_id: int, number: int, marks: Mapping[str, Any]) -> None:
    """Make the last notes on a trial, unless another process has ended it meanwhile."""
    try:
        set_trial_marks(storage, study_id, number, marks)
    except optuna.exceptions.UpdateFinishedTrialError:
        log.info("Trial %s was finished meanwhile", number)


def close_abandoned(stored: SharedStudy, error: str = LOST) -> None:
    """Fail every trial of the study that is still RUNNING. Only where no worker can be alive."""
    running = retried(stored.study.get_trials)(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        close_lost(stored, trial, error)


def rehearse() -> None:
    """Run a trial in memory: Optuna and SQLAlchemy import most of their modules when they are first used.

    Spark's Python daemon calls this before it forks the workers (spark_session.modules_to_import).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = create_storage("sqlite://")
    try:
        study = optuna.create_study(storage=storage)
        study.tell(study.ask({"x": FloatDistribution(0, 1)}), 0.0)
    finally:
        close_storage(storage)


def _find(study: optuna.Study, number: int) -> FrozenTrial | None:
    return next((t for t in study.get_trials(deepcopy=False) if t.number == number), None)
