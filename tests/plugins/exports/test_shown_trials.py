"""What people see of the run's notes: among the user attributes, without hiding an objective's own."""

from __future__ import annotations

import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.results.shown_trials import shown_trials
from optuna_spark.storage.trial_marks import begun, ended, failed

START = datetime.datetime(2026, 3, 1, 12, 0, 0, 123456)
END = datetime.datetime(2026, 3, 1, 12, 0, 0, 623456)


def trial_of(run_id: str, own: dict[str, Any], **marks: Any) -> FrozenTrial:
    attrs = ended({**begun(run_id, "w:1", START), **marks}, END)
    trial = create_trial(state=TrialState.FAIL, user_attrs=own, system_attrs=attrs)
    trial.datetime_start = trial.datetime_complete = START.replace(microsecond=0)
    return trial


def test_notes_are_user_attributes_and_times_are_exact() -> None:
    trial = trial_of("one", {"folds": 5}, **failed("ValueError"))
    (shown,) = shown_trials([trial])
    assert shown.user_attrs == {"run_id": "one", "worker": "w:1", "error": "ValueError", "folds": 5}
    assert shown.duration == datetime.timedelta(seconds=0.5)
    assert trial.user_attrs == {"folds": 5}, "the storage may have the original in its cache"
    assert trial.duration == datetime.timedelta(0)


def test_an_objectives_own_attribute_keeps_its_name_in_every_trial() -> None:
    plain, own = shown_trials([trial_of("one", {}), trial_of("one", {"run_id": "mine"})])
    assert plain.user_attrs == {"optuna_spark:run_id": "one", "worker": "w:1"}
    assert own.user_attrs == {"optuna_spark:run_id": "one", "worker": "w:1", "run_id": "mine"}


def test_trials_of_version_0_1_0_and_of_no_run_stay_as_they_are() -> None:
    old = create_trial(value=1.0, user_attrs={"run_id": "old", "worker": "w:1"})
    strange = create_trial(value=1.0)
    assert shown_trials([old, strange]) == [old, strange]
    assert shown_trials([old, trial_of("one", {})])[1].user_attrs["run_id"] == "one"


def test_what_is_shown_can_be_shown_again() -> None:
    once = shown_trials([trial_of("one", {"error": "mine"}, **failed("ValueError"))])
    assert shown_trials(once)[0].user_attrs == once[0].user_attrs
