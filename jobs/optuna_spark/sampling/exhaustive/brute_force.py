"""Optuna's BruteForceSampler for many workers: each point once, and none is left out because its worker died."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BruteForceSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import SpecError
from optuna_spark.sampling.exhaustive.exhaustive import Declared, Unread, never, takes_its_point
from optuna_spark.sampling.exhaustive.point_tree import Node, PointTree, candidates_of

# Optuna's: half of the choice is even over the points that are left, half over the values that lead to one.
EVEN = 0.5


class ExactBruteForceSampler(BruteForceSampler):
    """Proposes what `optuna.samplers.BruteForceSampler` proposes, from the same arguments, but no point twice.

    Optuna's sampler proposes points again once all have begun, does not know those of queued trials, counts a point as
    evaluated whose worker died, and goes through all trials for each parameter. `avoid_premature_stop` changes nothing
    here: the search is always complete. Not thread-safe.
    """

    def __init__(self, seed: int | None = None, avoid_premature_stop: bool = False) -> None:
        super().__init__(seed, avoid_premature_stop)
        self._is_interrupted: Callable[[FrozenTrial], bool] = never
        self._unread, self._tree = Unread(), PointTree(Declared())
        self.grows = True

    def serve(self, space: Declared, is_interrupted: Callable[[FrozenTrial], bool]) -> None:
        self._is_interrupted, self._tree, self.grows = is_interrupted, PointTree(space), not space.distributions
        for name, distribution in space.distributions.items():
            if candidates_of(distribution) is None:
                raise SpecError(
                    "BruteForceSampler tries every value, so a float parameter needs a step: set one, or choose"
                    " another sampler",
                    f"search_space.{name}",
                )

    def has_free(self, storage: BaseStorage, study_id: int) -> bool:
        self._look(storage, study_id)
        return self._tree.free > 0

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        candidates = candidates_of(param_distribution)
        if candidates is None:  # for which Optuna's method has the right words
            return super().sample_independent(study, trial, param_name, param_distribution)
        self._look(study._storage, study._study_id)
        node = self._tree.next_node(trial.number, param_name, param_distribution)
        chosen = self._rng.rng.choice(candidates, p=None if node is None else _weights(node, candidates))
        return param_distribution.to_external_repr(chosen.item())

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing: the run sees itself when no point is left."""

    def _look(self, storage: BaseStorage, study_id: int) -> None:
        for trial in self._unread.take(storage.get_all_trials(study_id, deepcopy=False)):
            self._tree.see(trial, takes_its_point(trial, self._is_interrupted))


def _weights(node: Node, candidates: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """(n_candidates,) probabilities as Optuna chooses them; None, which means even ones, where nothing is free."""
    free = np.array([node.behind(value) for value in candidates], dtype=float)
    if not free.any():
        return None
    some = np.where(free > 0, 1.0, 0.0)
    weights = (1.0 - EVEN) * (free / free.sum()) + EVEN * (some / some.sum())
    return np.asarray(weights / weights.sum())
