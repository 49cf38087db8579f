"""Optuna's GridSampler for many workers: each point once, and none is left out because its worker died."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import GridSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import SpecError
from optuna_spark.sampling.exhaustive.exhaustive import Declared, Unread, never, takes_its_point
from optuna_spark.storage.limits import TEXT_BYTES
from optuna_spark.storage.trial_marks import GRID_ID, GRID_SPACE, POINT
from optuna_spark.storage.trial_record import FIXED


class ExactGridSampler(GridSampler):
    """Proposes what `optuna.samplers.GridSampler` proposes, from the same arguments, but no point twice.

    Optuna's sampler evaluates running points again once all have begun, does not know the points of queued trials, and
    counts a point as evaluated whose worker died. It numbers points in an order that the seed decides, and a run that
    goes on has another seed; so here a trial's note names the point itself, beside Optuna's notes. Not thread-safe.
    """

    grows = False

    def __init__(self, search_space: Mapping[str, Sequence[Any]], seed: int | None = None) -> None:
        axes = {name: {_key(value): value for value in search_space[name]} for name in sorted(search_space)}
        super().__init__({name: list(values.values()) for name, values in axes.items()}, seed)
        self._places = [{key: place for place, key in enumerate(values)} for values in axes.values()]
        self._note = _note(self._search_space)
        self._is_interrupted: Callable[[FrozenTrial], bool] = never
        self._unread = Unread()
        # Points are counted in the order of itertools.product here. Optuna's order, _all_grids, depends on the seed.
        self._takers = np.zeros(self._n_min_trials, dtype=np.int32)  # (n_points,) how many trials have taken each
        self._taken = 0  # how many points are
        self._held: dict[int, int] = {}  # point of each unfinished trial, by number
        self._choosing: set[int] = set()  # running trials that another process has begun, and will give a point to

    def serve(self, space: Declared, is_interrupted: Callable[[FrozenTrial], bool]) -> None:
        self._is_interrupted = is_interrupted
        missing = [name for name in space.distributions if name not in self._search_space]
        if missing:
            raise SpecError(
                f"a grid must list values for every parameter of the search space, got none for {', '.join(missing)}",
                "sampler.args.search_space",
            )

    def has_free(self, storage: BaseStorage, study_id: int) -> bool:
        self._look(storage, study_id)
        return self._taken + len(self._choosing) < self._n_min_trials

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if POINT in trial.system_attrs or FIXED in trial.system_attrs:
            return
        self._look(study._storage, study._study_id)
        grid_id = self._next(trial.number)
        point = dict(zip(self._param_names, self._all_grids[grid_id], strict=True))
        notes: dict[str, Any] = {POINT: point, GRID_ID: grid_id, GRID_SPACE: self._note}
        for key, note in notes.items():
            study._storage.set_trial_system_attr(trial._trial_id, key, note)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        point = trial.system_attrs.get(POINT, {})
        if param_name not in point:  # for which Optuna's method has the right words
            return super().sample_independent(study, trial, param_name, param_distribution)
        value = point[param_name]
        if not param_distribution._contains(param_distribution.to_internal_repr(value)):
            warnings.warn(
                f"the grid's value {value} of {param_name} is out of range: {param_distribution}", stacklevel=2
            )
        return value

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing: the run sees itself when no point is left. Optuna's method fails on queued trials."""

    def _next(self, number: int) -> int:
        """Optuna's number for the point of a new trial: as in Optuna the trial's own number, else any that is free."""
        if number < self._n_min_trials and not self._takers[self._place(self._all_grids[number])]:
            return number
        free = np.flatnonzero(self._takers == 0)
        place = int(self._rng.rng.choice(free if len(free) else self._n_min_trials))
        return next(n for n, values in enumerate(self._all_grids) if self._place(values) == place)

    def _look(self, storage: BaseStorage, study_id: int) -> None:
        for trial in self._unread.take(storage.get_all_trials(study_id, deepcopy=False)):
            before = self._held.pop(trial.number, None)
            self._choosing.discard(trial.number)
            point = self._point(trial) if takes_its_point(trial, self._is_interrupted) else None
            if before != point:
                self._count(before, -1)
                self._count(point, 1)
            if point is not None and not trial.state.is_finished():
                self._held[trial.number] = point
            elif trial.state == TrialState.RUNNING and not {POINT, FIXED} & trial.system_attrs.keys():
                self._choosing.add(trial.number)

    def _count(self, point: int | None, change: int) -> None:
        if point is not None:
            was_taken = self._takers[point] > 0
            self._takers[point] += change
            self._taken += int(self._takers[point] > 0) - int(was_taken)

    def _point(self, trial: FrozenTrial) -> int | None:
        """The point that a trial evaluates; None for one outside of the grid, or of which it is not known."""
        known = trial.system_attrs.get(POINT) or {**trial.system_attrs.get(FIXED, {}), **trial.params}
        return (
            self._place([known[name] for name in self._param_names])
            if known.keys() >= self._search_space.keys()
            else None
        )

    def _place(self, values: Sequence[Any]) -> int | None:
        """A point's place in the order of itertools.product; None for one outside of the grid."""
        place = 0
        for places, value in zip(self._places, values, strict=True):
            if (at := places.get(_key(value))) is None:
                return None
            place = place * len(places) + at
        return place


def _note(space: Mapping[str, Any]) -> dict[str, Any]:
    """What each trial says of its grid: all of it, as Optuna does, or a digest if the database could not hold it."""
    text = json.dumps(space)
    return dict(space) if len(text) < TEXT_BYTES // 2 else {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def _key(value: Any) -> tuple[bool, Any]:
    """Equal for equal values. 1 and 1.0 are equal, 1 and true are not, and NaN equals NaN."""
    return isinstance(value, bool), "NaN" if isinstance(value, float) and math.isnan(value) else value
