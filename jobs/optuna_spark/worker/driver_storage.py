"""Optuna's storage in a worker: it reads the study through the driver, and changes only what its own trial may."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.storage.limits import attr_text, check_name, check_study_system_attr
from optuna_spark.storage.trial_record import FIXED
from optuna_spark.wire.messages import Part
from optuna_spark.worker.own_trial import OwnTrial, TrialLink
from optuna_spark.worker.study_copy import StudyCopy, in_states, needs_running

STUDY_ID = 0  # the driver has one study
_PICKLED = (
    "this trial was pickled, and a copy has no connection to the driver: read what it knows, and suggest, report and"
    " read the study where the trial runs"
)


class StudyLink(TrialLink, Protocol):
    """Sends to the driver what concerns the study."""

    def relative_params(self, number: int) -> tuple[dict[str, Any], dict[str, BaseDistribution]]: ...

    def read(self, part: Part, since: int) -> Any: ...

    def enqueue(self, params: Mapping[str, Any], user_attrs: Mapping[str, Any]) -> int: ...

    def set_study_attr(self, key: str, value: Any, system: bool) -> None: ...


class DriverStorage(BaseStorage):
    """A study that the driver has, as the objective of one worker may use it. Not thread-safe.

    It reads all of the study. Trials that have ended are kept, so that each is read once. It changes the trial that
    runs in this worker, the study's user attributes, and the queue of trials that wait. Everything else is refused with
    a RuntimeError. A trial's id is its number.

    Args:
        link: The connection to the driver.
        name: The study's name.
        directions: minimize or maximize, one for each value.
    """

    def __init__(self, link: StudyLink, name: str, directions: Sequence[str]) -> None:
        self._link: StudyLink | None = link
        self._name, self._directions = name, [StudyDirection[d.upper()] for d in directions]
        self._own: OwnTrial | None = None
        self._copy = StudyCopy(self._read)

    def begin(self, own: OwnTrial) -> None:
        """Let the objective work on this trial."""
        self._own = own

    # What a trial needs beyond BaseStorage.

    def suggest(self, trial_id: int, name: str, distribution: BaseDistribution) -> Any:
        return self._own_trial(trial_id).suggest(name, distribution)

    def should_prune(self, trial_id: int) -> bool:
        return self._own_trial(trial_id).should_prune()

    def relative_params(self, trial_id: int) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        return self._connected().relative_params(self._own_trial(trial_id).number)

    # The study.

    def get_study_id_from_name(self, study_name: str) -> int:
        if study_name != self._name:
            raise KeyError(f"there is no study {study_name!r} here: the driver has study {self._name!r}")
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        _check_study(study_id)
        return self._name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        _check_study(study_id)
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        _check_study(study_id)
        return self._copy.attrs()["user"]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        _check_study(study_id)
        return self._copy.attrs()["system"]

    def get_all_studies(self) -> list[FrozenStudy]:
        attrs = self._copy.attrs()
        return [FrozenStudy(self._name, None, attrs["user"], attrs["system"], STUDY_ID, directions=self._directions)]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        _check_study(study_id)
        check_name(key)
        attr_text(key, value)
        self._connected().set_study_attr(key, value, system=False)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        _check_study(study_id)
        check_study_system_attr(key, value)
        self._connected().set_study_attr(key, value, system=True)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> NoReturn:
        raise refused("make a study in the run's database", "optuna.create_study() makes one in memory")

    def delete_study(self, study_id: int) -> NoReturn:
        raise refused("delete a study", "`tuning restore` and Optuna's own tools work on the database")

    # Trials.

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return copy.deepcopy(self._find(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        _check_study(study_id)
        trials = self._all(needs_running(states))
        chosen = in_states(trials, states)
        return copy.deepcopy(chosen) if deepcopy else chosen

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        _check_study(study_id)
        return self._copy.best()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        _check_study(study_id)
        if template_trial is None:
            raise refused("make trials", "the run hands them out; study.enqueue_trial() queues parameters")
        queued = template_trial.state == TrialState.WAITING and not template_trial.params
        if not queued or template_trial.system_attrs.keys() != {FIXED}:
            raise refused("add trials to the run's study", "study.enqueue_trial() queues parameters")
        return self._enqueue(template_trial.system_attrs[FIXED], template_trial.user_attrs)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        raise refused("set a parameter", "trial.suggest_float() and its like have the sampler choose one")

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> NoReturn:
        raise refused("end a trial", "it ends when the function returns; raise optuna.TrialPruned to prune it")

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._own_trial(trial_id).report(step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._own_trial(trial_id).set_user_attr(key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._own_trial(trial_id).set_system_attr(key, value)

    # A copy in this process uses the same connection. One in another process, pickled, has none.

    def __deepcopy__(self, memo: dict[int, Any]) -> DriverStorage:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"_name": self._name, "_directions": self._directions, "_link": None, "_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._copy = StudyCopy(self._read)

    def _connected(self) -> StudyLink:
        if self._link is None:
            raise RuntimeError(_PICKLED)
        return self._link

    def _read(self, part: Part, since: int) -> Any:
        return self._connected().read(part, since)

    def _own_trial(self, trial_id: int) -> OwnTrial:
        """The trial that runs here; raises what Optuna raises for one that has ended or does not exist."""
        own = self._own
        if own is not None and own.number == trial_id and not own.ended:
            return own
        self._connected()
        self.check_trial_is_updatable(trial_id, self._find(trial_id).state)
        raise refused(f"change trial {trial_id}", "it can change its own trial, and no other one")

    def _find(self, trial_id: int) -> FrozenTrial:
        trials = self._all(with_running=True)
        if not 0 <= trial_id < len(trials):
            raise KeyError(f"no trial with trial_id {trial_id} exists")
        return trials[trial_id]

    def _all(self, with_running: bool) -> list[FrozenTrial]:
        """All trials. The own one is as its objective knows it: the driver may not have its last changes yet."""
        trials = self._copy.trials(with_running)
        own = self._own
        if own is None or own.ended:
            return trials
        return [self._mine(trial, own) if trial.number == own.number else trial for trial in trials]

    def _mine(self, trial: FrozenTrial, own: OwnTrial) -> FrozenTrial:
        mine = copy.deepcopy(own.frozen)
        mine.system_attrs = {**trial.system_attrs, **mine.system_attrs}
        return mine

    def _enqueue(self, params: dict[str, Any], user_attrs: dict[str, Any]) -> int:
        attr_text(FIXED, params)
        for name in params:
            check_name(name)
        for key, value in user_attrs.items():
            check_name(key)
            attr_text(key, value)
        return self._connected().enqueue(params, user_attrs)


def _check_study(study_id: int) -> None:
    if study_id != STUDY_ID:
        raise KeyError(f"no study with study_id {study_id} exists")


def refused(what: str, instead: str) -> RuntimeError:
    """The error for what an objective may not do."""
    return RuntimeError(f"an objective cannot {what}: {instead}")
