"""A storage as the dashboard reads it: trials have the run's notes among their user attributes, and exact times."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.results.shown_trials import shown_trials


class ReadOnlyError(Exception):
    """Somebody tried to change a study through the dashboard's storage."""


class ShownStorage(BaseStorage):
    """Another storage, for reading only. As thread-safe as that one.

    Args:
        storage: Where the studies are.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._storage = storage

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._storage.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._storage.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._storage.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._storage.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[Any]:  # Optuna names no public type for them
        return self._storage.get_all_studies()

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return shown_trials([self._storage.get_trial(trial_id)])[0]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return shown_trials([self._storage.get_best_trial(study_id)])[0]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        # All of them first, because the name of a note depends on what any trial of the study has.
        every = shown_trials(self._storage.get_all_trials(study_id, deepcopy=False))
        trials = every if states is None else [trial for trial in every if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def remove_session(self) -> None:
        self._storage.remove_session()

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> NoReturn:
        raise ReadOnlyError

    def delete_study(self, study_id: int) -> NoReturn:
        raise ReadOnlyError

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        raise ReadOnlyError

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        raise ReadOnlyError

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> NoReturn:
        raise ReadOnlyError

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> NoReturn:
        raise ReadOnlyError

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> NoReturn:
        raise ReadOnlyError

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> NoReturn:
        raise ReadOnlyError

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> NoReturn:
        raise ReadOnlyError

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> NoReturn:
        raise ReadOnlyError
