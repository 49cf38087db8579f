"""The trials of a study as TPE reads them, in arrays whose index is the trial's number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from optuna._hypervolume import _solve_hssp
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers._tpe.sampler import _get_reference_point
from optuna.study import StudyDirection
from optuna.study._multi_objective import _fast_non_domination_rank
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.sampling.tpe_axis import Axis, Floats, Numbers

# The groups in which trials are ranked. Trials of a later one are worse than those of an earlier one.
COMPLETE, PRUNED, INFEASIBLE = 0.0, 1.0, 2.0


class TrialArrays:
    """Reads each finished trial once. Not thread-safe.

    Args:
        storage: The study's storage.
        directions: The study's directions.

    Attributes:
        storage: The study's storage.
        directions: The study's directions.
        sampled: Parameters that a sampler chose for trials that run, by number: they count though the objective has not
            asked for all of them yet.
    """

    def __init__(self, storage: HistoryStorage, directions: Sequence[StudyDirection]) -> None:
        self.storage, self.directions = storage, directions
        self.sampled: dict[int, dict[str, float]] = {}
        self._signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions])
        self._seen = np.zeros(0, dtype=bool)
        self._losses = np.zeros(
            (0, len(directions))
        )  # smaller is better; NaN unless the trial is complete and feasible
        self._ranks = np.zeros((0, 3))  # group, then two numbers: smaller is better
        self._space: dict[str, BaseDistribution] | None = None
        self._values: dict[str, Floats] = {}
        self._axes: dict[str, Axis] = {}
        self._changes = 0  # how often values were set
        self._placed: dict[str, int] = {}  # of these, how many an axis has seen
        self._running: dict[int, int] = {}  # how many parameters of a running trial were read
        self._good: tuple[int, int, Numbers] | None = None
        self._last_good = np.zeros(0, dtype=np.intp)

    def look_at(self, finished: Numbers, running: Sequence[FrozenTrial]) -> None:
        """Read the finished trials that were not read before, and the parameters of the running ones."""
        self._make_room(max(int(finished.max(initial=-1)), *(t.number for t in running), -1) + 1)
        for number in finished[~self._seen[finished]].tolist():
            self._read(self.storage.get_trial(number))
        for trial in running:
            number, count = trial.number, len(trial.distributions)
            if self._running.get(number) != count:
                self._running[number] = count
                self._set(number, self.sampled.get(number, {}) | _internal(trial))

    def split(self, finished: Numbers, n_good: int) -> tuple[Numbers, Numbers]:
        """The numbers of the good trials and of the others, both ascending.

        The array of the good ones is the same object as before if they are the same trials.

        Args:
            finished: Numbers of the finished trials, ascending.
            n_good: How many are good.
        """
        if self._good is None or self._good[:2] != (len(finished), n_good):
            good = finished[self._best(finished, n_good)]
            if not np.array_equal(good, self._last_good):
                self._last_good = good
            self._good = (len(finished), n_good, self._last_good)
        good = self._good[2]
        others = np.ones(len(finished), dtype=bool)
        others[np.searchsorted(finished, good)] = False
        return good, finished[others]

    def values(self, name: str) -> Floats:
        """(n,) internal values of a parameter by number; NaN where a trial lacks it."""
        if name not in self._values:
            self._values[name] = np.full(len(self._seen), np.nan)
        return self._values[name]

    def with_all(self, numbers: Numbers, names: Sequence[str]) -> Numbers:
        """The trials among these that have all parameters: like Optuna, TPE learns only from them.

        Returns:
            The array that was given if that holds for all.
        """
        for name in names:
            lacking = np.isnan(self.values(name)[numbers])
            if lacking.any():
                numbers = numbers[~lacking]
        return numbers

    def axis(self, name: str, distribution: FloatDistribution | IntDistribution) -> Axis:
        """The axis of a numerical parameter, with the points of all trials."""
        axis = self._axes.get(name)
        if axis is None or axis.distribution != distribution:
            axis = self._axes[name] = Axis(distribution)
            self._placed[name] = -1
        if self._placed[name] != self._changes:
            self._placed[name] = self._changes
            axis.look_at(self.values(name))
        return axis

    def common_space(self) -> dict[str, BaseDistribution]:
        """The distributions that all finished trials share, by name, without those of a single value.

        It is Optuna's `IntersectionSearchSpace` without the copies that this makes for each new trial.
        """
        self.look_at(self.storage.finished_well(), [])
        return {name: distribution for name, distribution in (self._space or {}).items() if not distribution.single()}

    def _best(self, finished: Numbers, n_good: int) -> Numbers:
        """Indices into `finished` of the good trials, ascending."""
        losses = self._losses[finished]
        complete = np.flatnonzero(~np.isnan(losses[:, 0]))
        if losses.shape[1] == 1 and n_good <= len(complete):
            return _smallest(losses[:, 0], n_good)
        if losses.shape[1] > 1 and 0 < n_good < len(complete):
            return complete[_pareto_best(losses[complete], n_good)]
        group, first, second = self._ranks[finished].T
        if losses.shape[1] > 1:  # all complete ones are good: their order does not matter
            first = np.where(group == COMPLETE, 0.0, first)
        return np.sort(np.lexsort((finished, second, first, group))[:n_good])

    def _read(self, trial: FrozenTrial) -> None:
        number = trial.number
        self._seen[number] = True
        self.sampled.pop(number, None)
        self._running.pop(number, None)
        self._set(number, _internal(trial))
        violation = sum(v for v in trial.constraints.values() if v > 0)
        if violation > 0:
            self._ranks[number] = INFEASIBLE, violation, 0.0
        elif trial.state == TrialState.COMPLETE:
            self._losses[number] = self._signs * trial.values
            self._ranks[number] = COMPLETE, self._losses[number, 0], 0.0
        else:
            self._ranks[number] = PRUNED, *self._pruned_rank(trial)
        self._good = None
        if self._space is None:
            self._space = dict(sorted(trial.distributions.items()))
        elif self._space != trial.distributions:
            found = trial.distributions
            self._space = {name: d for name, d in self._space.items() if found.get(name) == d}

    def _pruned_rank(self, trial: FrozenTrial) -> tuple[float, float]:
        """Of two pruned trials the one that got further is better, then the one with the better last value."""
        if not trial.intermediate_values:
            return 1.0, 0.0
        step, value = max(trial.intermediate_values.items())
        return -step, math.inf if math.isnan(value) else float(self._signs[0] * value)

    def _set(self, number: int, values: Mapping[str, float]) -> None:
        self._changes += 1
        for name, value in values.items():
            self.values(name)[number] = value
        if len(values) < len(self._values):
            for name in self._values.keys() - values.keys():
                self._values[name][number] = np.nan

    def _make_room(self, size: int) -> None:
        # Twice the size that is needed, so that arrays are copied rarely.
        more = 2 * size - len(self._seen) if size > len(self._seen) else 0
        if more:
            self._seen = np.pad(self._seen, (0, more))
            self._losses = np.pad(self._losses, ((0, more), (0, 0)), constant_values=np.nan)
            self._ranks = np.pad(self._ranks, ((0, more), (0, 0)))
            self._values = {
                name: np.pad(values, (0, more), constant_values=np.nan) for name, values in self._values.items()
            }


def _internal(trial: FrozenTrial) -> dict[str, float]:
    params = trial.params
    return {name: d.to_internal_repr(params[name]) for name, d in trial.distributions.items()}


def _smallest(losses: Floats, count: int) -> Numbers:
    """Indices of the smallest losses, ascending; of equal ones the first."""
    if count == 0:
        return np.zeros(0, dtype=np.intp)
    limit = np.partition(losses, count - 1)[count - 1]  # NaN is sorted to the end
    below = np.flatnonzero(losses < limit)
    equal = np.flatnonzero(losses == limit)[: count - len(below)]
    return np.sort(np.concatenate([below, equal]))


def _pareto_best(losses: Floats, count: int) -> Numbers:
    """Indices of the best trials of several objectives, as Optuna chooses them.

    Whole fronts first; of the front that does not fit, those that add most to the hypervolume.
    """
    ranks = _fast_non_domination_rank(losses, n_below=count)
    sizes = np.bincount(ranks)
    whole = int(np.searchsorted(np.cumsum(sizes), count, side="right"))  # fronts that fit
    chosen = np.flatnonzero(ranks < whole)
    if len(chosen) < count:
        front = np.flatnonzero(ranks == whole)
        point = _get_reference_point(losses[front])
        chosen = np.append(chosen, _solve_hssp(losses[front], front, count - len(chosen), point))
    return np.sort(chosen)
