"""A report costs the same however many came before it: work is counted, not timed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from optuna_spark.driver.dispatch import assignments
from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.shared_study import shared_storage, shared_trial
from optuna_spark.spec.sections import CoordinatorSpec
from optuna_spark.storage.trial_record import TrialRecord
from optuna_spark.worker.driver_source import CoordinatorClient
from optuna_spark.worker.worker import run_trial
from tests.support.coordination import Coordinator, spec_for, stored
from tests.support.shared import started, worker_of

REPORTS = 60


def chatty(trial: Any) -> float:
    for step in range(REPORTS):
        trial.report(step / 2, step)
        trial.should_prune()  # brings a report to the driver at once
        trial.set_user_attr("last step", step)
    return 1.0


@pytest.fixture(params=["driver", "database"])
def written(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many reports each record of a chatty trial held, when it is written after every report."""
    held: list[int] = []
    make = TrialRecord.of.__func__  # type: ignore[attr-defined]

    def noted(cls: type, trial: FrozenTrial, start: Any, *reports_before: int) -> TrialRecord:
        record: TrialRecord = make(cls, trial, start, *reports_before)
        held.append(len(record.intermediate_values))
        return record

    monkeypatch.setattr(TrialRecord, "of", classmethod(noted))
    monkeypatch.setattr(assignments, "UPDATE_S", -1.0)
    monkeypatch.setattr(shared_storage, "UPDATE_S", -1.0)
    prune = shared_trial.SharedTrial.should_prune
    monkeypatch.setattr(shared_trial.SharedTrial, "should_prune", lambda trial: _put_and(trial, prune))
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    spec = spec_for(trials=1, search_space={}, coordination=request.param, coordinator=CoordinatorSpec(history=100))
    with ExitStack() as stack:
        if request.param == "driver":
            endpoint = stack.enter_context(Coordinator(spec, url)).start()
            source: Any = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, "test:1")
        else:
            source = stack.enter_context(worker_of(stack.enter_context(started(spec, url))))
        trial = source.ask()
        source.tell(trial, run_trial(chatty, trial, 1))
        source.close()
    (trial,) = stored(url)
    assert trial.intermediate_values == {step: step / 2 for step in range(REPORTS)}
    assert trial.user_attrs["last step"] == REPORTS - 1
    return held


def _put_and(trial: Any, prune: Callable[[Any], bool]) -> bool:
    trial.storage.put()
    return prune(trial)


def test_each_report_is_written_once_and_not_with_every_later_one(written: list[int]) -> None:
    assert len(written) >= REPORTS
    assert sum(written) <= 2 * REPORTS  # the database's worker ends its trial with a whole record


@pytest.mark.parametrize("what", ["intermediate_values", "user_attrs"])
def test_the_storage_copies_a_trials_values_at_its_first_one_only(what: str) -> None:
    storage = HistoryStorage(None)
    study = storage.load("study", [StudyDirection.MINIMIZE], [])
    number = storage.create_new_trial(study)
    before = storage.get_trial(number)
    put: Callable[[Any], None] = {
        "intermediate_values": lambda n: storage.set_trial_intermediate_value(number, n, 1.0),
        "user_attrs": lambda n: storage.set_trial_user_attr(number, f"{n}", n),
    }[what]
    put(0)
    storage.set_trial_system_attr(number, "in between", 0)
    values = getattr(storage.get_trial(number), what)
    for n in range(1, 50):
        put(n)
    assert getattr(storage.get_trial(number), what) is values
    assert len(values) == 50
    assert not getattr(before, what)  # which Optuna's own trial keeps and changes as it likes


def test_an_ended_trial_and_a_copy_keep_what_they_have() -> None:
    storage = HistoryStorage(None)
    study = storage.load("study", [StudyDirection.MINIMIZE], [])
    number = storage.create_new_trial(study)
    storage.set_trial_user_attr(number, "a", 1)
    (kept,) = copy.deepcopy(storage.get_all_trials(study))
    storage.set_trial_user_attr(number, "b", 2)
    storage.set_trial_state_values(number, kept.state.COMPLETE, [1.0])
    assert kept.user_attrs == {"a": 1}
    with pytest.raises(RuntimeError):
        storage.set_trial_user_attr(number, "c", 3)
    assert storage.get_trial(number).user_attrs == {"a": 1, "b": 2}
