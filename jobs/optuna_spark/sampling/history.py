"""The study in the driver's memory, and the bounded part of it that samplers and pruners look at.

A sampler's time grows with the trials it is shown (Optuna's TPE: linearly). In a long study it is shown a fixed
number of them: the best, the most recent, and some of all others, evenly spread; a pruner, which compares a trial
with what is usual, only the most recent ones. Everything else sees all trials.
"""

from __future__ import annotations

import bisect
import copy
import functools
import itertools
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

View = Literal["sampler", "pruner", "all"]

FINISHED_WELL = (TrialState.COMPLETE, TrialState.PRUNED)
# Shares of the trials a sampler is shown; the others are spread over the whole history.
BEST, RECENT = 1 / 8, 1 / 2
GOLDEN = (5**0.5 - 1) / 2


class History:
    """Numbers of the finished trials worth looking at. Not thread-safe.

    Args:
        limit: Finished trials to show, at most; None = all.
        directions: The study's; with several, "best" means not dominated.
        recent: Share of the most recent ones among those that samplers are shown.

    Attributes:
        unfinished: Numbers of the trials that wait or run.
    """

    def __init__(self, limit: int | None, directions: Sequence[StudyDirection], recent: float = RECENT) -> None:
        self._limit = limit
        self._signs = [-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions]
        shown = limit or 0
        self._n_best, self._n_recent = (max(1, int(share * shown)) for share in (BEST, recent))
        self._n_spread = max(0, shown - self._n_best - self._n_recent)
        self._numbers: list[int] = []
        self._best: list[tuple[float, float, int]] = []
        self._front: list[tuple[tuple[float, ...], int]] = []
        self._recent: deque[int] = deque(maxlen=shown)
        self._spread: list[tuple[float, int]] = []
        self.unfinished: set[int] = set()

    @property
    def bounded(self) -> bool:
        """Whether there are more finished trials than are shown."""
        return self._limit is not None and len(self._numbers) > self._limit

    def for_samplers(self) -> list[int]:
        """The finished trials that samplers are shown, by number."""
        if not self.bounded:
            return self._numbers
        recent = itertools.islice(self._recent, len(self._recent) - self._n_recent, None)
        best = [n for *_, n in self._best] + [n for _, n in self._front]
        return sorted({*best, *recent, *(n for _, n in self._spread)})

    def for_pruners(self) -> list[int]:
        """The finished trials that pruners are shown, by number."""
        return sorted(self._recent) if self.bounded else self._numbers

    def open(self, number: int) -> None:
        """A trial that has not finished: always in sight."""
        self.unfinished.add(number)

    def close(self, trial: FrozenTrial) -> None:
        """A trial that has finished; failed ones teach a sampler nothing and leave."""
        self.unfinished.discard(trial.number)
        if trial.state not in FINISHED_WELL:
            return
        bisect.insort(self._numbers, trial.number)
        if self._limit is None:
            return
        self._recent.append(trial.number)
        # Multiples of the golden ratio, modulo 1, fill [0, 1) evenly: the smallest ones are spread evenly over time.
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
    """A finished trial. Samplers look at these of all of them for each new one: they are read once, then attributes."""

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
        """The same trial; it shares its parts, which no longer change."""
        finished = cls.__new__(cls)
        vars(finished).update(vars(trial))
        return finished


class HistoryStorage(InMemoryStorage):
    """Optuna's in-memory storage, holding one study and showing a bounded part of it. Not thread-safe.

    A trial's id here is its number.

    Args:
        limit: Finished trials shown, at most; None = all.
        recent: Share of the most recent ones among those that samplers are shown.

    Attributes:
        stored_distributions: Those of the loaded trials, by parameter.
    """

    def __init__(self, limit: int | None, recent: float = RECENT) -> None:
        super().__init__()
        self._limit, self._recent = limit, recent
        self._history = History(limit, [], recent)
        self.stored_distributions: dict[str, BaseDistribution] = {}
        self._view: View = "sampler"
        self._shown: list[int] | None = None
        self._finished: NDArray[np.intp] | None = None
        self._trials: list[FrozenTrial] = []

    def load(self, name: str, directions: Sequence[StudyDirection], trials: Sequence[FrozenTrial]) -> int:
        """Create the study with its stored trials, numbered from 0 without gaps; returns its id."""
        self._history = History(self._limit, directions, self._recent)
        study_id = self.create_new_study(directions, name)
        for trial in trials:
            self.create_new_trial(study_id, trial)
            for param, distribution in trial.distributions.items():
                self.stored_distributions.setdefault(param, distribution)
        return study_id

    def everything(self, study_id: int) -> list[FrozenTrial]:
        """All trials by number; not copies, so for reading only."""
        return super().get_all_trials(study_id, deepcopy=False)

    @contextmanager
    def showing(self, view: View) -> Iterator[None]:
        """Show another part of the study than a sampler's."""
        self._view, self._shown = view, None
        try:
            yield
        finally:
            self._view, self._shown = "sampler", None

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        self._note(self.get_trial(trial_id))
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        changed = super().set_trial_state_values(trial_id, state, values)
        self._note(self.get_trial(trial_id))
        return changed

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        if param_name in self.stored_distributions:  # as RDBStorage does; InMemoryStorage forgets added trials here
            check_distribution_compatibility(self.stored_distributions[param_name], distribution)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self._view == "all" or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        shown = self._bounded() if self._history.bounded else self._all()
        chosen = shown if states is None else [t for t in shown if t.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def finished_well(self) -> NDArray[np.intp]:
        """Numbers of the completed and pruned trials that a sampler is shown, ascending."""
        if self._finished is None:
            self._finished = np.array(self._history.for_samplers(), dtype=np.intp)
        return self._finished

    def running(self) -> list[FrozenTrial]:
        """The trials that run, by number; not copies, so for reading only."""
        trials = map(self.get_trial, sorted(self._history.unfinished))
        return [trial for trial in trials if trial.state == TrialState.RUNNING]

    def _all(self) -> list[FrozenTrial]:
        trials = self._trials.copy()
        for number in self._history.unfinished:
            trials[number] = self.get_trial(number)
        return trials

    def _bounded(self) -> list[FrozenTrial]:
        # Not a selection from a list of all: copying that one list touches every trial there is.
        history = self._history
        if self._shown is None:
            finished = history.for_pruners() if self._view == "pruner" else self.finished_well().tolist()
            self._shown = sorted({*finished, *history.unfinished})
        trials = list(map(self._trials.__getitem__, self._shown))
        for number in history.unfinished:
            trials[bisect.bisect_left(self._shown, number)] = self.get_trial(number)
        return trials

    def _note(self, trial: FrozenTrial) -> None:
        self._shown = None
        if trial.number == len(self._trials):
            self._trials.append(trial)
        if trial.state.is_finished():
            self._finished = None
            self._trials[trial.number] = _Finished.of(trial)
            self._history.close(trial)
        else:
            self._history.open(trial.number)
