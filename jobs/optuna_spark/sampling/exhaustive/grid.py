"""Optuna's GridSampler for many workers: each point once, and none is left out because its worker died."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.samplers import GridSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import SpecError
from optuna_spark.sampling.exhaustive.exhaustive import Unread, never, takes_its_point
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.storage.limits import TEXT_BYTES
from optuna_spark.storage.trial_marks import GRID_ID, GRID_SPACE
from optuna_spark.storage.trial_record import FIXED


class ExactGridSampler(GridSampler):
    """Proposes what `optuna.samplers.GridSampler` proposes, from the same arguments, but no point twice.

    Optuna's sampler evaluates running points again once all have begun, does not know the points of queued trials, and
    counts a point as evaluated whose worker died. It keeps its notes on trials in Optuna's form, so that either class
    can go on with a study of the other. Not thread-safe.
    """

    grows = False

    def __init__(self, search_space: Mapping[str, Sequence[Any]], seed: int | None = None) -> None:
        super().__init__(search_space, seed)
        self._is_interrupted: Callable[[FrozenTrial], bool] = never
        self._unread = Unread()
        self._takers = np.zeros(self._n_min_trials, dtype=np.int32)  # (n_points,) how many trials have taken each
        self._taken = 0  # how many points are
        self._held: dict[int, int] = {}  # point of each unfinished trial, by number
        self._points: dict[tuple[Any, ...], int] = {}  # made when it is needed
        self._note = _note(self._search_space)

    def serve(self, space: Mapping[str, ParamSpec], is_interrupted: Callable[[FrozenTrial], bool]) -> None:
        self._is_interrupted = is_interrupted
        missing = [name for name in space if name not in self._search_space]
        if missing:
            raise SpecError(
                f"a grid must list values for every parameter of the search space, got none for {', '.join(missing)}",
                "sampler.args.search_space",
            )

    def has_free(self, storage: BaseStorage, study_id: int) -> bool:
        self._look(storage, study_id)
        return self._taken < self._n_min_trials

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if GRID_ID in trial.system_attrs or FIXED in trial.system_attrs:
            return
        self._look(study._storage, study._study_id)
        point = self._next(trial.number)
        study._storage.set_trial_system_attr(trial._trial_id, GRID_SPACE, self._note)
        study._storage.set_trial_system_attr(trial._trial_id, GRID_ID, point)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing: the run sees itself when no point is left. Optuna's method fails on queued trials."""

    def _next(self, number: int) -> int:
        """The point of a new trial: as in Optuna the one of its number, else any that is free."""
        if number < self._n_min_trials and not self._takers[number]:
            return number
        free = np.flatnonzero(self._takers == 0)
        return int(self._rng.rng.choice(free if len(free) else self._n_min_trials))

    def _look(self, storage: BaseStorage, study_id: int) -> None:
        for trial in self._unread.take(storage.get_all_trials(study_id, deepcopy=False)):
            before = self._held.pop(trial.number, None)
            point = self._point(trial) if takes_its_point(trial, self._is_interrupted) else None
            if before != point:
                self._count(before, -1)
                self._count(point, 1)
            if point is not None and not trial.state.is_finished():
                self._held[trial.number] = point

    def _count(self, point: int | None, change: int) -> None:
        if point is not None:
            was_taken = self._takers[point] > 0
            self._takers[point] += change
            self._taken += int(self._takers[point] > 0) - int(was_taken)

    def _point(self, trial: FrozenTrial) -> int | None:
        """The point that a trial evaluates; None for one outside of the grid, or of which it is not known."""
        attrs = trial.system_attrs
        if GRID_ID in attrs and self._is_of_this_grid(attrs.get(GRID_SPACE)):
            return int(attrs[GRID_ID])
        params = {**attrs.get(FIXED, {}), **trial.params}
        if not params.keys() >= self._search_space.keys():
            return None
        self._points = self._points or {_key(values): place for place, values in enumerate(self._all_grids)}
        return self._points.get(_key([params[name] for name in self._param_names]))

    def _is_of_this_grid(self, note: Any) -> bool:
        return note == self._note or (isinstance(note, dict) and self._same_search_space(note))


def _note(space: Mapping[str, Any]) -> dict[str, Any]:
    """What each trial says of its grid: all of it, as Optuna does, or a digest if the database could not hold it."""
    text = json.dumps(space)
    return dict(space) if len(text) < TEXT_BYTES // 2 else {"sha256": hashlib.sha256(text.encode()).hexdigest()}


def _key(values: Sequence[Any]) -> tuple[Any, ...]:
    """Equal for equal points. 1 and 1.0 are equal, 1 and true are not."""
    return tuple((isinstance(value, bool), value) for value in values)
