"""The book of a run: the study in memory, who runs which trial, and what the budget still allows."""

from __future__ import annotations

import datetime
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, BruteForceSampler, GridSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.budget import Budget
from optuna_spark.errors import TuningError
from optuna_spark.history import FINISHED_WELL, HistoryStorage
from optuna_spark.outcome import Outcome
from optuna_spark.persistence import WRITER_KEY
from optuna_spark.records import TrialRecord
from optuna_spark.samplers import build_pruner, build_sampler
from optuna_spark.search_space import suggest_params
from optuna_spark.spec import TuningSpec
from optuna_spark.stops import should_terminate
from optuna_spark.wire import WireError

log = logging.getLogger(__name__)

LOST = "the worker that ran this trial died"
UPDATE_S = 0.5
AHEAD_LIMIT = 8


class Journal(Protocol):
    """Where the book is kept; see Committer."""

    def put(self, record: TrialRecord) -> None: ...

    def put_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def commit(self, record: TrialRecord) -> Future[None]: ...


@dataclass(frozen=True)
class StoredStudy:
    """What the database holds of the study when a run starts."""

    directions: Sequence[StudyDirection]
    trials: Sequence[FrozenTrial]
    system_attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker gets it.

    Attributes:
        params: Internal representation of what is sampled already: the declared search space.
    """

    number: int
    start: datetime.datetime
    params: dict[str, float]
    user_attrs: dict[str, Any]


@dataclass(frozen=True)
class Update:
    """What an objective told its trial since the last time.

    Attributes:
        reports: Step and value, in the order they were made.
    """

    reports: tuple[tuple[int, float], ...] = ()
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)


class Worker(NamedTuple):
    """One worker's connection: its key, and host:pid for people."""

    key: int
    name: str


@dataclass
class _Running:
    """A trial a worker holds."""

    trial: optuna.Trial
    worker: Worker
    start: datetime.datetime
    put_at: float


class _Study(optuna.Study):
    """A study whose sampler can say that its search space is exhausted (Optuna's stop needs `optimize`)."""

    exhausted = False

    def stop(self) -> None:
        self.exhausted = True


class Ledger:
    """Hands out trials and takes their results. Not thread-safe: everything happens in one thread.

    Trials are handed out in the order of their numbers; those sampled ahead have the highest numbers, and no
    row in the database until a worker gets them. So a run that ends early leaves none of them behind.

    Args:
        spec: The run.
        stored: The study as the database has it.
        journal: Takes every change.
    """

    def __init__(self, spec: TuningSpec, stored: StoredStudy, journal: Journal) -> None:
        self._spec, self._journal = spec, journal
        sampler = build_sampler(spec.sampler, sampler_seed(spec.seed, len(stored.trials)))
        self._memory = HistoryStorage(None if needs_all(sampler) else spec.coordinator.history)
        self._study_id = self._memory.load(spec.study_name, stored.directions, stored.trials)
        for key, value in stored.system_attrs.items():
            if portable(key):
                self._memory.set_study_system_attr(self._study_id, key, value)
        self._attrs = self._memory.get_study_system_attrs(self._study_id)
        self._study = _Study(spec.study_name, self._memory, sampler, build_pruner(spec.pruner))
        self._running: dict[int, _Running] = {}
        self._ahead: deque[optuna.Trial] = deque()
        self._ahead_with_row: set[int] = set()
        mine = [t for t in stored.trials if t.user_attrs.get("run_id") == spec.run_id]
        failed = sum(t.state == TrialState.FAIL and not self._forgiven(t) for t in mine)
        self.budget = Budget(spec, sum(t.state in FINISHED_WELL for t in mine), failed)
        self.best: FrozenTrial | None = None
        for trial in stored.trials:
            self._compare(trial)
        self._recover(stored.trials)
        self._check_target()

    @property
    def running(self) -> int:
        """Trials workers hold."""
        return len(self._running)

    @property
    def available(self) -> int:
        """Trials that can be handed out now."""
        return 0 if self.budget.reason else len(self._ahead) + self.budget.left

    def ask(self, worker: Worker) -> Assignment | None:
        """A trial for a worker; None when there is none now (see `budget.over` for whether there may be later)."""
        if self.budget.reason:
            return None
        trial = self._ahead.popleft() if self._ahead else self._sample()
        return None if trial is None else self._hand_out(trial, worker)

    def sample_ahead(self, workers: int) -> bool:
        """Sample a trial for the next worker that asks, if so many workers want that; whether it did.

        A trial sampled ahead does not know the results that come in until it is handed out. With one worker
        nothing is sampled ahead: its run equals Optuna's own sequential search.
        """
        depth = min(AHEAD_LIMIT, max(1, workers // 4)) if workers > 1 and self._spec.coordinator.ask_ahead else 0
        if len(self._ahead) >= depth or (trial := self._sample()) is None:
            return False
        self._ahead.append(trial)
        return True

    def suggest(self, worker: Worker, number: int, name: str, distribution: BaseDistribution) -> float:
        """What Optuna's Trial suggests, in internal representation.

        Raises:
            Exception: Whatever Optuna's Trial raises; the objective's to see.
        """
        value = _suggest(self._held(worker, number).trial, name, distribution)
        self._put_now_and_then(number)
        return float(distribution.to_internal_repr(value))

    def update(self, worker: Worker, number: int, update: Update) -> None:
        """Take over what the objective reported and set."""
        trial = self._held(worker, number).trial
        for step, value in update.reports:
            trial.report(value, step)
        for key, attr in update.user_attrs.items():
            trial.set_user_attr(key, attr)
        for key, violation in update.constraints.items():
            trial.set_constraint(key, violation)
        self._put_now_and_then(number)

    def should_prune(self, worker: Worker, number: int) -> bool:
        trial = self._held(worker, number).trial
        with self._memory.showing("pruner"):
            return bool(trial.should_prune())  # some pruners answer with numpy's

    def tell(self, worker: Worker, number: int, outcome: Outcome) -> Future[None]:
        """A worker finished its trial; the future is done when that is durable."""
        held = self._held(worker, number)
        self._end(held.trial, outcome)
        self.budget.end(number, outcome.state, outcome.error)
        done = self._journal.commit(self._record(number))
        del self._running[number]
        self._compare(self._memory.get_trial(number))
        self._check_target()
        self._check_terminator()
        return done

    def release(self, worker: Worker, number: int) -> None:
        """A worker gives back a trial it has not begun."""
        held = self._held(worker, number)
        del self._running[number]
        self._ahead = deque(sorted([held.trial, *self._ahead], key=lambda t: t.number))
        self._ahead_with_row.add(number)

    def leave(self, worker: Worker) -> None:
        """A worker has gone; what it held has failed, and is queued again a few times at most."""
        for number in [n for n, held in self._running.items() if held.worker == worker]:
            self._lose(number, again=not self.budget.over)

    def close(self) -> None:
        """Leave no trial running: the run is over, and all workers have gone."""
        for number in list(self._running):
            self._lose(number, again=False)
        for trial in self._ahead:
            if trial.number in self._ahead_with_row:
                self._end(trial, Outcome(TrialState.FAIL, error=LOST))
                self._journal.put(self._record(trial.number))
        self._ahead.clear()

    def _hand_out(self, trial: optuna.Trial, worker: Worker) -> Assignment:
        now = datetime.datetime.now()  # naive local time, as Optuna's own
        trial.set_user_attr("run_id", self._spec.run_id)
        trial.set_user_attr("worker", worker.name)
        self._running[trial.number] = _Running(trial, worker, now, time.monotonic())
        self._ahead_with_row.discard(trial.number)
        record = self._record(trial.number)
        self._journal.put(record)
        return Assignment(trial.number, now, record.params, record.user_attrs)

    def _sample(self) -> optuna.Trial | None:
        while self.budget.left:
            try:
                trial = self._study.ask()
                self.budget.start()
                if self._suggest_all(trial):
                    self._put_study_attrs()
                    return trial
            except Exception as error:
                log.exception("The sampler failed")
                name = self._spec.sampler.name
                self.budget.fail(TuningError(f"sampler {name} failed: {type(error).__name__}: {error}"))
        return None

    def _suggest_all(self, trial: optuna.Trial) -> bool:
        """Sample the declared search space; False when the trial was queued with values that do not fit."""
        try:
            suggest_params(trial, self._spec.search_space)
        except ValueError as error:
            if "fixed_params" not in self._memory.get_trial(trial.number).system_attrs:
                raise
            for earlier in self._ahead:  # rows are written in the order of the numbers
                self._ahead_with_row.add(earlier.number)
                self._journal.put(self._record(earlier.number))
            outcome = Outcome(TrialState.FAIL, error=f"the queued parameters do not fit the search space: {error}")
            self._end(trial, outcome)
            self.budget.end(trial.number, outcome.state, outcome.error)
            self._journal.put(self._record(trial.number))
            return False
        return True

    def _end(self, trial: optuna.Trial, outcome: Outcome) -> None:
        if outcome.error is not None:
            trial.set_user_attr("error", outcome.error)
        try:
            self._study.tell(trial, outcome.values, outcome.state)
        except Exception as error:
            if not self._memory.get_trial(trial.number).state.is_finished():
                raise
            # Optuna records the result also when the sampler's own bookkeeping fails.
            log.exception("The sampler failed on a finished trial")
            self.budget.fail(TuningError(f"sampler {self._spec.sampler.name} failed: {error}"))
        if self._study.exhausted:
            self.budget.stop("the sampler has tried all combinations of its search space")
        self._put_study_attrs()

    def _lose(self, number: int, again: bool) -> None:
        held = self._running[number]
        log.warning("Trial %s: worker %s is lost", number, held.worker.name)
        self._end(held.trial, Outcome(TrialState.FAIL, error=LOST))
        lost = self._memory.get_trial(number)
        if self._forgiven(lost):
            self.budget.lose()
        else:
            self.budget.end(number, lost.state, LOST)
        self._journal.commit(self._record(number))
        del self._running[number]
        if again:
            self._queue_again(lost)

    def _queue_again(self, lost: FrozenTrial) -> None:
        if lost.params and self._forgiven(lost):
            retries = lost.user_attrs.get("retries", 0) + 1
            attrs = {"run_id": self._spec.run_id, "retried_from": lost.number, "retries": retries}
            self._study.enqueue_trial(dict(lost.params), user_attrs=attrs)

    def _forgiven(self, trial: FrozenTrial) -> bool:
        """Whether a failed trial was lost with its worker and may be tried again."""
        lost = trial.user_attrs.get("error") == LOST
        return lost and bool(trial.user_attrs.get("retries", 0) < self._spec.stop.max_retries)

    def _recover(self, trials: Sequence[FrozenTrial]) -> None:
        """Close what a driver that died left running, and queue what is still to be tried first."""
        for number in [t.number for t in trials if t.state == TrialState.RUNNING]:
            self._memory.set_trial_user_attr(number, "error", LOST)
            self._memory.set_trial_state_values(number, TrialState.FAIL)
            self._journal.put(self._record(number))
        again = {t.user_attrs.get("retried_from") for t in trials}
        for trial in self._memory.everything(self._study_id):
            mine = trial.user_attrs.get("run_id") == self._spec.run_id and trial.number not in again
            if mine and trial.state == TrialState.FAIL and not self.budget.over:
                self._queue_again(trial)
        with self._memory.showing("all"):
            for params in self._spec.enqueue:
                self._study.enqueue_trial(params, user_attrs={"run_id": self._spec.run_id}, skip_if_exists=True)
        for trial in self._memory.everything(self._study_id)[len(trials) :]:
            self._journal.put(self._record(trial.number))

    def _record(self, number: int) -> TrialRecord:
        trial = self._memory.get_trial(number)
        held = self._running.get(number)
        return TrialRecord.of(trial, held.start if held else trial.datetime_start)

    def _put_now_and_then(self, number: int) -> None:
        held, now = self._running[number], time.monotonic()
        if now - held.put_at > UPDATE_S:
            held.put_at = now
            self._journal.put(self._record(number))

    def _put_study_attrs(self) -> None:
        attrs = self._memory.get_study_system_attrs(self._study_id)
        if attrs is not self._attrs:  # the storage replaces what it changes
            changed = {k: v for k, v in attrs.items() if portable(k) and self._attrs.get(k) != v}
            self._attrs = attrs
            self._journal.put_attrs(changed)

    def _held(self, worker: Worker, number: int) -> _Running:
        held = self._running.get(number)
        if held is None or held.worker != worker:
            raise WireError(f"worker {worker.name} speaks of trial {number}, which it does not hold")
        return held

    def _compare(self, trial: FrozenTrial) -> None:
        if trial.state != TrialState.COMPLETE or len(self._spec.directions) > 1:
            return
        if any(v > 0 for v in trial.constraints.values()):
            return
        if self.best is None or _better(self._spec.directions[0], trial, self.best):
            self.best = trial

    def _check_target(self) -> None:
        target = self._spec.stop.target_value
        if target is None or self.best is None:
            return
        value = float(self.best.value or 0.0)
        if value <= target if self._spec.directions[0] == "minimize" else value >= target:
            self.budget.stop(f"the target value {target:g} was reached")

    def _check_terminator(self) -> None:
        if not self._spec.stop.terminator or self.budget.finished % 10:
            return
        if should_terminate(self._memory.everything(self._study_id), self._study.directions):
            self.budget.stop("Optuna's terminator expects no further improvement")


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_float(name, low, high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)


def _better(direction: str, trial: FrozenTrial, best: FrozenTrial) -> bool:
    new, old = cast(float, trial.value), cast(float, best.value)  # complete trials have values
    return new < old if direction == "minimize" else new > old


def needs_all(sampler: BaseSampler) -> bool:
    """Whether a sampler must see every trial, because it tries each combination once."""
    return isinstance(sampler, GridSampler | BruteForceSampler)


def portable(key: str) -> bool:
    """Whether a study's system attribute means the same in memory and in the database.

    Genetic samplers cache ids of parents there, which differ; they compute them again.
    """
    return ":parent:" not in key and key != WRITER_KEY


def sampler_seed(seed: int | None, history: int) -> int | None:
    """The spec's seed for a new study; for one that holds trials a seed of their number, not to repeat them."""
    if seed is None or not history:
        return seed
    return int(np.random.SeedSequence([seed, history]).generate_state(1)[0])
