"""The study in the driver's memory, and the bounded part of it that one sampler is shown.

Samplers and pruners are shown all trials, but for one sampler whose time grows too fast with them. In a long study it
is shown a fixed number: the best trials, the most recent ones, and others spread evenly over the history.
"""

from __future__ import annotations

import bisect
import copy
import functools
import itertools
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.sampling.change_log import ChangeLog
from optuna_spark.sampling.fits_study import compatible, misfit

View = Literal["sampler", "pruner", "all"]
T = TypeVar("T", bound=FrozenTrial)

FINISHED_WELL = (TrialState.COMPLETE, TrialState.PRUNED)
# Shares of the best and of the most recent trials among those shown; the rest is spread over the whole history.
BEST, RECENT = 1 / 8, 1 / 2
GOLDEN = (5**0.5 - 1) / 2


class History:
    """Chooses which finished trials are shown, and keeps their numbers. Not thread-safe.

    Args:
        limit: How many finished trials are shown at most; None means all.
        directions: The study's directions. With several, the best trials are those that no other dominates.
        whole: Whether samplers are shown all trials all the same.

    Attributes:
        unfinished: Numbers of the trials that wait or run.
    """

    def __init__(self, limit: int | None, directions: Sequence[StudyDirection], whole: bool = False) -> None:
        self._limit, self._whole = limit, whole
        self._signs = [-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions]
        shown = limit or 0
        self._n_best, self._n_recent = (max(1, int(share * shown)) for share in (BEST, RECENT))
        self._n_spread = max(0, shown - self._n_best - self._n_recent)
        self._numbers: list[int] = []
        self._best: list[tuple[float, float, int]] = []  # violation, loss, number; one direction
        self._front: list[tuple[tuple[float, ...], int]] = []  # losses, number; several directions
        self._recent: deque[int] = deque(maxlen=shown)
        self._spread: list[tuple[float, int]] = []  # rank (see `close`), number
        self.unfinished: set[int] = set()

    @property
    def bounded(self) -> bool:
        """Whether there are more finished trials than are shown."""
        return self._limit is not None and len(self._numbers) > self._limit

    def for_samplers(self) -> list[int]:
        """Numbers of the finished trials that samplers are shown, ascending."""
        if self._whole or not self.bounded:
            return self._numbers
        recent = itertools.islice(self._recent, len(self._recent) - self._n_recent, None)
        best = [n for *_, n in self._best] + [n for _, n in self._front]
        return sorted({*best, *recent, *(n for _, n in self._spread)})

    def open(self, number: int) -> None:
        """Add a trial that has not finished. All of these are always shown."""
        self.unfinished.add(number)

    def close(self, trial: FrozenTrial) -> None:
        """Note that a trial has finished. A failed one is not shown, because a sampler learns nothing from it."""
        self.unfinished.discard(trial.number)
        if trial.state not in FINISHED_WELL:
            return
        bisect.insort(self._numbers, trial.number)
        if self._limit is None or self._whole:
            return
        self._recent.append(trial.number)
        # Multiples of the golden ratio, modulo 1, fill [0, 1) evenly. So the trials with the smallest ones are spread
        # evenly over time, however many trials are still to come.
        bisect.insort(self._spread, (len(self._numbers) * GOLDEN % 1, trial.number))
        del self._spread[self._n_spread :]
        if trial.state == TrialState.COMPLETE:
            self._rank(trial)

    def _rank(self, trial: FrozenTrial) -> None:
        violation = sum(v for v in trial.constraints.values() if v > 0)
        losses = tuple(s * v for s, v in zip(self._signs, trial.values, strict=True))
        if len(losses) == 1:
            bisect.insort(self._best, (violation, losses[0], trial.number))
            del self._best[self._n_best :]
        elif violation == 0 and not any(_dominates(other, losses) for other, _ in self._front):
            kept = [entry for entry in self._front if not _dominates(losses, entry[0])]
            self._front = [*kept, (losses, trial.number)][-self._n_best :]


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


class _Finished(FrozenTrial):
    """A finished trial that computes these properties once.

    For each new trial a sampler reads them of every finished trial, where FrozenTrial computes them each time.
    """

    @functools.cached_property
    def number(self) -> int:
        return super().number

    @functools.cached_property
    def value(self) -> float | None:
        return super().value

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        return super().params

    @functools.cached_property
    def constraints(self) -> dict[str, float]:
        return super().constraints

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Finished:
        """The same trial. It shares its dicts with the original, because a finished trial never changes."""
        return _sharing(cls, trial)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        """A copy as Python would make it, but that distributions, which never change, are shared."""
        copied = FrozenTrial.__new__(FrozenTrial)
        for name, value in vars(self).items():
            if name not in _COMPUTED_ONCE:
                shared = name == "_distributions" or not value
                vars(copied)[name] = copy.copy(value) if shared else copy.deepcopy(value, memo)
        return copied


_COMPUTED_ONCE = {name for name, value in vars(_Finished).items() if isinstance(value, functools.cached_property)}


class _Given(FrozenTrial):
    """A trial that nobody else has, so that its copy in the memory may share its dicts."""

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Given:
        return _sharing(cls, trial)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        return _sharing(FrozenTrial, self)


def _sharing(cls: type[T], trial: FrozenTrial) -> T:
    """A trial of this class that has the other one's dicts."""
    same = cls.__new__(cls)
    vars(same).update(vars(trial))
    return same


def with_own_values(trial: FrozenTrial) -> FrozenTrial:
    """The same trial, whose reported values and user attributes may change without changing the original's."""
    own = copy.copy(trial)
    own.intermediate_values, own.user_attrs = dict(trial.intermediate_values), dict(trial.user_attrs)
    return own


class HistoryStorage(InMemoryStorage):
    """Optuna's in-memory storage with one study, of which it shows a bounded part. Not thread-safe.

    A trial's id is its number here.

    Args:
        limit: How many finished trials are shown at most; None means all.
        whole: Whether samplers are shown all trials all the same.

    Attributes:
        stored_distributions: The distributions of the loaded trials, by parameter.
        changes: The trials in the order in which they changed.
    """

    def __init__(self, limit: int | None, whole: bool = False) -> None:
        super().__init__()
        self.changes = ChangeLog()
        self._limit, self._whole = limit, whole
        self._history = History(limit, [], whole)
        self._name, self.stored_distributions = "", dict[str, BaseDistribution]()
        self._view: View = "sampler"
        self._shown: list[int] | None = None  # numbers shown in this view; None: to be chosen again
        self._finished = np.zeros(0, dtype=np.intp)  # numbers of the finished trials that samplers are shown
        self._new: list[int] = []  # trials that finished since
        self._growing: dict[int, FrozenTrial] = {}  # by number, those that may be changed in place

    def load(self, name: str, directions: Sequence[StudyDirection], trials: Sequence[FrozenTrial]) -> int:
        """Create the study with its stored trials, whose numbers start at 0 without gaps; returns its id.

        The memory keeps the trials' own dicts, so the caller leaves them alone.
        """
        self._name, self._history = name, History(self._limit, directions, self._whole)
        study_id = self.create_new_study(directions, name)
        for trial in trials:
            self.add(study_id, _Given.of(trial))
            for param, distribution in trial.distributions.items():
                self.stored_distributions.setdefault(param, distribution)
        return study_id

    @property
    def count(self) -> int:
        """How many trials the study has."""
        return self._max_trial_id + 1

    def everything(self, study_id: int) -> list[FrozenTrial]:
        """All trials in the order of their numbers. Not copies, so for reading only."""
        return super().get_all_trials(study_id, deepcopy=False)

    @contextmanager
    def showing(self, view: View) -> Iterator[None]:
        """Show another part of the study in this block than a sampler's."""
        before, self._view, self._shown = self._view, view, None
        try:
            yield
        finally:
            self._view, self._shown = before, None

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        return self.add(study_id, template_trial)

    def begin_next(self, study_id: int) -> int:
        """Begin the trial that waits first, or a new one, as `study.ask` does; returns its number."""
        number = self.first_waiting()
        if number is None:
            return self.create_new_trial(study_id)
        self.set_trial_state_values(number, TrialState.RUNNING)
        return number

    def first_waiting(self) -> int | None:
        """The number of the trial that waits first; None if none does."""
        waiting = (n for n in self._history.unfinished if self.get_trial(n).state == TrialState.WAITING)
        return min(waiting, default=None)

    def add(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial to the memory; what `create_new_trial` does unless a subclass does more."""
        trial_id = super().create_new_trial(study_id, template_trial)
        self._note(self.get_trial(trial_id))
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        self._note(self.get_trial(trial_id))
        return changed

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._to_change(trial_id).intermediate_values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._to_change(trial_id).user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        # In a copy: SuccessiveHalvingPruner counts on it that the trials that it has got do not change meanwhile.
        trial = copy.copy(self._to_change(trial_id))
        trial.system_attrs = {**trial.system_attrs, key: value}
        self._set_trial(trial_id, trial)
        self._growing[trial_id] = trial

    def _to_change(self, trial_id: int) -> FrozenTrial:
        """A trial whose reported values and user attributes may be changed in place.

        InMemoryStorage copies all of them for each new one: a trial with twice the reports takes four times as long.
        """
        trial = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        if self._growing.get(trial_id) is not trial:
            trial = with_own_values(trial)
            self._set_trial(trial_id, trial)
            self._growing[trial_id] = trial
        return trial

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        # RDBStorage checks this too. InMemoryStorage does not know the distributions of trials that were added whole.
        if param_name in self.stored_distributions:
            self._check_stored(param_name, distribution)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def _check_stored(self, param: str, distribution: BaseDistribution) -> None:
        stored = self.stored_distributions[param]
        if not compatible(distribution, stored):
            # The objective declares it only now, and gets what Optuna would raise, in better words.
            raise ValueError(misfit(self._name, param, distribution, stored))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        # Optuna asks for waiting trials to find queued ones, of which none may be hidden.
        everything = self._view != "sampler" or self._whole or not self._history.bounded
        if everything or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        shown = self._bounded()
        chosen = shown if states is None else [t for t in shown if t.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def finished_well(self) -> NDArray[np.intp]:
        """Numbers of the completed and pruned trials that a sampler is shown, ascending."""
        if self._new and self._whole:
            new = np.sort(np.array(self._new, dtype=np.intp))
            self._finished = np.insert(self._finished, np.searchsorted(self._finished, new), new)
        elif self._new:
            self._finished = np.array(self._history.for_samplers(), dtype=np.intp)
        self._new = []
        return self._finished

    def running(self) -> list[FrozenTrial]:
        """The running trials in the order of their numbers. Not copies, so for reading only."""
        trials = map(self.get_trial, sorted(self._history.unfinished))
        return [trial for trial in trials if trial.state == TrialState.RUNNING]

    def _bounded(self) -> list[FrozenTrial]:
        # Built from the shown numbers alone: a copy of the list of all trials would touch every trial of the study.
        if self._shown is None:
            self._shown = sorted({*self.finished_well().tolist(), *self._history.unfinished})
        return list(map(self.get_trial, self._shown))

    def _note(self, trial: FrozenTrial) -> None:
        self._shown = None
        self.changes.note(trial.number)
        if trial.state.is_finished():
            if trial.state in FINISHED_WELL:
                self._new.append(trial.number)
            self._set_trial(trial._trial_id, _Finished.of(trial))
            self._growing.pop(trial.number, None)
            self._history.close(trial)
        else:
            self._history.open(trial.number)
