"""The trial in a worker: an `optuna.Trial` whose storage is the driver."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.trial import FrozenTrial

from optuna_spark.storage.limits import CONSTRAINT_LENGTH, check_name
from optuna_spark.worker.driver_storage import DriverStorage
from optuna_spark.worker.own_trial import CONSTRAINT


class RemoteTrial(optuna.Trial):
    """A running trial, used by an objective. Not thread-safe.

    Parameters of a declared search space have been sampled already. The driver samples others when they are first
    suggested. Reports and attributes travel together: with `should_prune`, with the trial's end, or once a second.

    A pickled trial is a copy: what it knows can be read, the rest needs the driver and is refused.

    Args:
        study: The study, over a DriverStorage.
        frozen: The trial as it begins.
    """

    # Optuna's own __init__ asks storage and sampler for this trial, which cost a message each. So it is not called.
    def __init__(self, study: optuna.Study, frozen: FrozenTrial) -> None:
        storage = study._storage
        assert isinstance(storage, DriverStorage)
        self.study, self._trial_id, self._driver = study, frozen.number, storage
        self.storage: optuna.storages.BaseStorage = storage
        self._cached_frozen_trial = frozen
        self.relative_search_space: dict[str, BaseDistribution] | None = None
        self._relative_params: dict[str, Any] | None = None

    @property
    def relative_params(self) -> dict[str, Any]:
        if self._relative_params is None:
            params, self.relative_search_space = self._driver.relative_params(self._trial_id)
            self._relative_params = params
        return self._relative_params

    @property
    def constraints(self) -> dict[str, float]:
        return self._cached_frozen_trial.constraints

    def should_prune(self) -> bool:
        if len(self.study.directions) > 1:
            raise NotImplementedError("Trial.should_prune is not supported for multi-objective optimization.")
        return self._driver.should_prune(self._trial_id)

    def set_user_attr(self, key: str, value: Any) -> None:
        self._driver.set_trial_user_attr(self._trial_id, key, value)

    def set_constraint(self, key: str, value: float) -> None:
        check_name(key, CONSTRAINT_LENGTH)
        attrs, name = self._cached_frozen_trial.system_attrs, CONSTRAINT + key
        is_new = name not in attrs
        self._cached_frozen_trial.set_constraint(key, value)  # checks the value, and warns if it is not new
        if is_new:
            self._driver.set_trial_system_attr(self._trial_id, name, attrs[name])

    def __deepcopy__(self, memo: dict[int, Any]) -> RemoteTrial:
        return self  # a handle on the running trial, which scikit-learn's `clone` copies with its callbacks

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        trial = self._cached_frozen_trial
        known = trial.distributions.get(name)
        if known is None:
            return self._driver.suggest(self._trial_id, name, distribution)
        check_distribution_compatibility(known, distribution)
        return trial.params[name]
