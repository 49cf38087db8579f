"""Optuna's own tests of a storage, run against the one that a worker has.

The tests make studies and trials through the storage, which a worker may not. So `Cluster` stands before it: a new
study is a new driver, a new trial is one that a worker asks for, and its end is told by that worker. System attributes
are the sampler's, and set in the driver. What the tests then read, another worker reads through the driver.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec
from optuna_spark.storage.trial_marks import PREFIX
from optuna_spark.wire.messages import Next, Outcome, Tell
from optuna_spark.worker.driver_source import CoordinatorClient
from optuna_spark.worker.driver_storage import STUDY_ID, DriverStorage
from optuna_spark.worker.trial import RemoteTrial
from tests.support.coordination import spec_for
from tests.support.memory_driver import MemoryDriver

IDS = 1000  # trials of the next study have ids from here on

# The tests of the suite that are not run, and why.
STUDIES = "a worker makes and deletes no studies"
PARAMETERS = "the driver's sampler chooses a parameter; a worker does not set one"
STEPS = "a trial reports a step once: `trial.report` ignores a second value"
NOT_RUN = {
    "test_create_new_study_unique_id": STUDIES,
    "test_create_new_study_with_name": STUDIES,
    "test_create_new_study_with_empty_name": STUDIES,
    "test_delete_study": STUDIES,
    "test_delete_study_after_create_multiple_studies": STUDIES,
    "test_set_trial_param": PARAMETERS,
    "test_set_and_get_trial_param_for_floats": PARAMETERS,
    "test_get_all_trials_params_order": PARAMETERS,
    "test_get_all_trials_not_modified": PARAMETERS,
    "test_set_trial_intermediate_value": STEPS,
    "test_pickle_storage": "a pickled storage has no connection (test_study.py says what a pickled trial can do)",
}


@dataclass
class Held:
    """A trial that a worker of its own runs."""

    worker: CoordinatorClient
    trial: RemoteTrial


class Cluster(BaseStorage):
    """One driver a study; whoever makes a trial is a worker that keeps it until its end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._drivers: list[MemoryDriver] = []
        self._readers: list[DriverStorage] = []
        self._names: list[str] = []
        self._held: dict[int, Held] = {}

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        self._names.append(study_name or f"no-name-{len(self._names)}")
        spec = spec_for(
            study_name=self._names[-1],
            directions=tuple(d.name.lower() for d in directions),
            search_space={},
            sampler=ComponentSpec("RandomSampler"),
            trials=1000,
            coordinator=CoordinatorSpec(ask_ahead=False),
        )
        driver = self._stack.enter_context(MemoryDriver(spec))
        self._drivers.append(driver)
        self._readers.append(driver.worker("reader")._storage)
        return len(self._drivers) - 1

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._reader(study_id)
        driver = self._drivers[study_id]
        if template_trial is not None:  # one that the database held
            number = self._memory(study_id).create_new_trial(STUDY_ID, template_trial)
        else:
            worker = driver.worker()
            trial = worker.ask()
            assert isinstance(trial, RemoteTrial)
            number = trial.number
            self._held[study_id * IDS + number] = Held(worker, trial)
        return study_id * IDS + number

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        held = self._held.get(trial_id)
        if held is None or held.worker._own is None or held.worker._own.ended:
            self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        elif state.is_finished():
            held.worker._own.ended = True
            outcome = Outcome(state, None if values is None else tuple(map(float, values)))
            held.worker._request(Tell(held.trial.number, outcome, ask=False), Next)  # `tell` asks for another trial
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._writer(trial_id).set_trial_intermediate_value(trial_id % IDS, step, intermediate_value)
        self._flush(trial_id)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._writer(trial_id).set_trial_user_attr(trial_id % IDS, key, value)
        self._flush(trial_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._reader(study_id).set_study_user_attr(STUDY_ID, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        for study_id, reader in enumerate(self._readers):
            if study_name == self._names[study_id]:
                return study_id + reader.get_study_id_from_name(study_name)
        return self._readers[0].get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._reader(study_id).get_study_name_from_id(STUDY_ID)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._reader(study_id).get_study_directions(STUDY_ID)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._reader(study_id).get_study_user_attrs(STUDY_ID)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._reader(study_id).get_study_system_attrs(STUDY_ID)

    def get_all_studies(self) -> list[FrozenStudy]:
        found = [reader.get_all_studies()[0] for reader in self._readers]
        for study_id, study in enumerate(found):
            study._study_id = study_id
        return found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id // IDS >= len(self._readers):
            raise KeyError(trial_id)
        return self._with_id(self._readers[trial_id // IDS].get_trial(trial_id % IDS), trial_id // IDS)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = self._reader(study_id).get_all_trials(STUDY_ID, deepcopy, states)
        return [self._with_id(trial, study_id) for trial in found]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return self._reader(study_id).get_best_trial(STUDY_ID)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        found = self._reader(study_id).get_trial_id_from_study_id_trial_number(STUDY_ID, trial_number)
        return study_id * IDS + found

    def delete_study(self, study_id: int) -> None:
        self._reader(study_id).delete_study(STUDY_ID)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._reader(study_id)
        self._memory(study_id).set_study_system_attr(STUDY_ID, key, value)

    def set_trial_param(self, trial_id: int, *args: Any) -> None:
        self._writer(trial_id).set_trial_param(trial_id % IDS, *args)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._memory(trial_id // IDS).set_trial_system_attr(trial_id % IDS, key, value)

    def _memory(self, study_id: int) -> HistoryStorage:
        return self._drivers[study_id].trials._study._memory

    def _reader(self, study_id: int) -> DriverStorage:
        if not 0 <= study_id < len(self._readers):
            raise KeyError(study_id)
        return self._readers[study_id]

    def _writer(self, trial_id: int) -> DriverStorage:
        held = self._held.get(trial_id)
        return self._readers[trial_id // IDS] if held is None else held.worker._storage

    def _flush(self, trial_id: int) -> None:
        """Send at once what the worker would send within a second."""
        if (own := self._held[trial_id].worker._own) is not None and not own.ended:
            self._held[trial_id].worker.update(own.number, own.take_changes())
            self._held[trial_id].worker.read("attrs", 0)  # answered after the update was handled

    def _with_id(self, trial: FrozenTrial, study_id: int) -> FrozenTrial:
        trial._trial_id = study_id * IDS + trial.number
        # What the run itself notes with its trials is no part of these tests.
        trial.system_attrs = {k: v for k, v in trial.system_attrs.items() if not k.startswith(PREFIX)}
        return trial


@pytest.fixture
def storage() -> Iterator[BaseStorage]:
    with ExitStack() as stack:
        yield Cluster(stack)


class TestWorkersStorage(StorageTestCase):
    """The suite without NOT_RUN."""


for _name in NOT_RUN:
    setattr(TestWorkersStorage, _name, None)  # pytest collects functions only


def test_every_test_that_is_not_run_is_one_of_the_suite() -> None:
    assert {name for name in NOT_RUN if not hasattr(StorageTestCase, name)} == set()
