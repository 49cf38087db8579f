"""The trial of a run with `coordination: database`, as its objective gets it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from optuna_spark.sampling.calling.components import Components
from optuna_spark.shared_study.shared_storage import SharedStorage
from optuna_spark.storage.choices import internal_repr
from optuna_spark.trial_callback import Callbacks

T = TypeVar("T")


class SharedTrial(optuna.Trial):
    """A trial of a SharedStorage. Optuna samples and prunes it with the part of the study that is shown to them.

    A pickled trial is a copy: what it knows can be read, what needs the database is refused.

    Attributes:
        ahead: Whether its parameters are sampled before the objective asks for them, and are written together.
        alone: Whether no other process may sample meanwhile.
    """

    storage: SharedStorage
    ahead = False
    alone = False
    _callbacks: Callbacks | None = None
    _components: Components | None = None

    def belongs_to(self, callbacks: Callbacks, components: Components) -> None:
        """Set who is told of each report, and who names the sampler or pruner that fails."""
        self._callbacks, self._components = callbacks, components

    def report(self, value: float, step: int) -> None:
        super().report(value, step)
        if self._callbacks is not None:
            self._callbacks.trial_reported(self.number, int(step), float(value))

    def should_prune(self) -> bool:
        self.storage.look_now_and_then()
        with self.storage.showing("pruner"):
            return bool(self._told(super().should_prune))

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedTrial:
        return self  # a handle on the running trial, which scikit-learn's `clone` copies with its callbacks

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_callbacks": None, "_components": None}

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if self.ahead:  # whoever samples ahead names the sampler
            return self._sample(name, distribution)
        if self.alone and name not in self._cached_frozen_trial.distributions:
            return self._told(lambda: self.storage.alone(lambda: self._sample(name, distribution)))
        return self._told(lambda: self._sample(name, distribution))

    def _told(self, call: Callable[[], T]) -> T:
        """Make a call for the objective; an error of the sampler's or the pruner's own names it."""
        return call() if self._components is None else self._components.told(call)

    def _sample(self, name: str, distribution: BaseDistribution) -> Any:
        is_new, storage = name not in self._cached_frozen_trial.distributions, self.storage
        with storage.settling if is_new and _has_twins(distribution) else contextlib.nullcontext():
            with storage.showing("sampler"):
                value = super()._suggest(name, distribution)
            if is_new and (index := internal_repr(distribution, value)) != distribution.to_internal_repr(value):
                storage.set_trial_param(self._trial_id, name, index, distribution)
        if is_new and not self.ahead and not self.alone:
            storage.put_now_and_then()
        return value


def _has_twins(distribution: BaseDistribution) -> bool:
    """Whether Python may take two choices for one, such as 1 and True. Optuna then notes the first of them."""
    choices = distribution.choices if isinstance(distribution, CategoricalDistribution) else ()
    return len({type(choice) for choice in choices if isinstance(choice, int | float)}) > 1
