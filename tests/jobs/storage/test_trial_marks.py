"""The run's notes on a trial: whatever an objective has set, they say what the run has noted, and nothing else."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.storage.limits import ERROR_CHARACTERS, TEXT_BYTES
from optuna_spark.storage.trial_marks import (
    ERROR,
    RUN,
    TrialMarks,
    abandoned,
    begins_with,
    begun,
    ended,
    error_of,
    failed,
    marks_of,
    next_try,
    run_id_of,
    times_of,
)

START = datetime.datetime(2026, 3, 1, 12, 0, 0, 123456)
END = datetime.datetime(2026, 3, 1, 12, 0, 0, 623457)
# What version 0.1.0 wrote, and what an objective of this version may set all the same.
OLD: dict[str, Any] = {"run_id": "old", "worker": "w:1", "retried_from": 3, "retries": 2, "error": "it broke"}


def trial_with(user: dict[str, Any] | None = None, system: dict[str, Any] | None = None) -> FrozenTrial:
    trial = create_trial(state=TrialState.FAIL, user_attrs=user or {}, system_attrs=system or {})
    trial.number = 7
    return trial


def test_what_is_noted_is_read() -> None:
    lost = trial_with(system=begun("one", "w:1", START))
    attrs = {**begun("one", "w:2", START), **next_try(lost), **failed("ValueError: no")}
    assert marks_of(trial_with(system=attrs)) == TrialMarks("one", "w:2", 7, 1, "ValueError: no")
    again = next_try(trial_with(system=attrs))
    assert marks_of(trial_with(system=again)).retries == 2


def test_an_objectives_attributes_of_the_same_names_are_not_read() -> None:
    trial = trial_with(OLD, begun("one"))
    assert marks_of(trial) == TrialMarks("one")
    assert (run_id_of(trial), error_of(trial)) == ("one", None)


@pytest.mark.parametrize("marks", [next_try(trial_with()), failed("x")])
def test_any_note_shows_that_the_trial_is_of_this_version(marks: dict[str, Any]) -> None:
    assert run_id_of(trial_with(OLD, marks)) is None


def test_what_version_0_1_0_wrote_is_read_where_there_are_no_notes() -> None:
    trial = trial_with(OLD)
    assert marks_of(trial) == TrialMarks("old", "w:1", 3, 2, "it broke")
    assert (run_id_of(trial), error_of(trial)) == ("old", "it broke")
    assert marks_of(trial_with(system=next_try(trial))).retries == 3


def test_what_an_objective_made_of_the_old_names_is_no_note() -> None:
    trial = trial_with({"run_id": 1, "worker": ["w"], "retried_from": "x", "retries": "many", "error": None})
    assert marks_of(trial) == TrialMarks()
    assert marks_of(trial_with(system=next_try(trial))).retries == 1


def test_a_trial_that_version_0_1_0_left_running_keeps_what_it_noted() -> None:
    closed = trial_with(OLD, abandoned(trial_with(OLD), "its worker died"))
    assert marks_of(closed) == TrialMarks("old", "w:1", 3, 2, "its worker died")


def test_times_are_exact_to_the_microsecond() -> None:
    trial = trial_with(system=ended(begun("one", "w:1", START), END))
    trial.datetime_start, trial.datetime_complete = START.replace(microsecond=0), END.replace(microsecond=0)
    assert trial.system_attrs[RUN]["start"] == START.astimezone(datetime.UTC).isoformat()
    assert times_of(trial) == (START, END)


def test_without_both_exact_times_optunas_are_taken() -> None:
    whole = START.replace(microsecond=0), END.replace(microsecond=0)
    for attrs in (begun("one", "w:1", START), ended(begun("one"), END), {}):
        trial = trial_with(system=attrs)
        trial.datetime_start, trial.datetime_complete = whole
        assert times_of(trial) == whole


def test_a_running_trial_has_an_exact_start() -> None:
    trial = create_trial(state=TrialState.RUNNING, system_attrs=begun("one", "w:1", START))
    assert times_of(trial) == (START, None)


def test_the_end_of_a_long_error_is_kept_and_fits_the_column() -> None:
    attrs = failed("\N{SLIGHTLY SMILING FACE}" * 20_000 + "ValueError: the cause")
    assert attrs[ERROR].endswith("ValueError: the cause")
    assert len(attrs[ERROR]) == ERROR_CHARACTERS
    assert len(json.dumps(attrs[ERROR])) <= TEXT_BYTES


@pytest.mark.parametrize("run_id", ["one", 'a "quoted" one', "größer 漢", ""])
def test_the_stored_text_of_a_run_begins_like_that_of_no_other_run(run_id: str) -> None:
    def text(name: str) -> str:
        return json.dumps(begun(name, "w:1", START)[RUN])

    assert text(run_id).startswith(begins_with(run_id))
    assert not text(f"{run_id}1").startswith(begins_with(run_id))
    assert not text(f'{run_id}", "').startswith(begins_with(run_id))
