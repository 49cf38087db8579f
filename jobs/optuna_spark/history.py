"""The study in the driver's memory, and the bounded part of it that samplers and pruners look at.

A sampler's time grows with the trials it is shown (Optuna's TPE: linearly). In a long study it is shown the
best half and the most recent half of a fixed number of trials; a pruner, which compares a trial with what is
usual, only the most recent ones. Everything else sees all trials.
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

from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

View = Literal["sampler", "pruner", "all"]

FINISHED_WELL = (TrialState.COMPLETE, TrialState.PRUNED)


class History:
    """Numbers of the trials worth looking at. Not thread-safe.

    Args:
        limit: Finished trials to keep, at most.
        directions: The study's; with several, "best" means not dominated.

    Attributes:
        finished: How many trials have finished well.
        unfinished: Numbers of those that wait or run.
    """

    def __init__(self, limit: int, directions: Sequence[StudyDirection]) -> None:
        self.finished = 0
        self._half = limit // 2
        self._signs = [-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions]
        self._best: list[tuple[float, float, int]] = []
        self._front: list[tuple[tuple[float, ...], int]] = []
        self._recent: deque[int] = deque(maxlen=limit)
        self.unfinished: set[int] = set()

    def open(self, number: int) -> None:
        """A trial that has not finished: always in sight."""
        self.unfinished.add(number)

    def close(self, trial: FrozenTrial) -> None:
        """A trial that has finished; failed ones teach a sampler nothing and leave."""
        self.unfinished.discard(trial.number)
        if trial.state not in FINISHED_WELL:
            return
        self.finished += 1
        self._recent.append(trial.number)
        if trial.state == TrialState.COMPLETE:
            self._rank(trial)

    def best_and_recent(self) -> list[int]:
        recent = itertools.islice(self._recent, max(0, len(self._recent) - self._half), None)
        best = [n for *_, n in self._best] + [n for _, n in self._front]
        return sorted({*best, *recent, *self.unfinished})

    def recent(self) -> list[int]:
        return sorted({*self._recent, *self.unfinished})

    def _rank(self, trial: FrozenTrial) -> None:
        violation = sum(v for v in trial.constraints.values() if v > 0)
        losses = tuple(s * v for s, v in zip(self._signs, trial.values, strict=True))
        if len(losses) == 1:
            bisect.insort(self._best, (violation, losses[0], trial.number))
            del self._best[self._half :]
        elif violation == 0 and not any(_dominates(other, losses) for other, _ in self._front):
            kept = [entry for entry in self._front if not _dominates(losses, entry[0])]
            self._front = [*kept, (losses, trial.number)][-self._half :]


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

    Attributes:
        stored_distributions: Those of the loaded trials, by parameter.
    """

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self._limit = limit
        self._history = History(limit or 1, [])
        self.stored_distributions: dict[str, BaseDistribution] = {}
        self._view: View = "sampler"
        self._shown: list[int] | None = None
        self._trials: list[FrozenTrial] = []

    def load(self, name: str, directions: Sequence[StudyDirection], trials: Sequence[FrozenTrial]) -> int:
        """Create the study with its stored trials, numbered from 0 without gaps; returns its id."""
        self._history = History(self._limit or 1, directions)
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
        shown = self._all() if self._limit is None or self._history.finished <= self._limit else self._bounded()
        chosen = shown if states is None else [t for t in shown if t.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def _all(self) -> list[FrozenTrial]:
        trials = self._trials.copy()
        for number in self._history.unfinished:
            trials[number] = self.get_trial(number)
        return trials

    def _bounded(self) -> list[FrozenTrial]:
        # Not a selection from a list of all: copying that one list touches every trial there is.
        history = self._history
        if self._shown is None:
            self._shown = history.recent() if self._view == "pruner" else history.best_and_recent()
        trials = list(map(self._trials.__getitem__, self._shown))
        for number in history.unfinished:
            trials[bisect.bisect_left(self._shown, number)] = self.get_trial(number)
        return trials

    def _note(self, trial: FrozenTrial) -> None:
        self._shown = None
        if trial.number == len(self._trials):
            self._trials.append(trial)
        if trial.state.is_finished():
            self._trials[trial.number] = _Finished.of(trial)
            self._history.close(trial)
        else:
            self._history.open(trial.number)
