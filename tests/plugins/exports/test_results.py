"""A study as plain data: best trials, rows, parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.errors import TuningError
from optuna_spark.results.best import best_params, best_trials, state_counts
from optuna_spark.results.snapshot import mask_passwords, snapshot
from optuna_spark.results.trial_rows import to_json_value, trial_columns, trial_records, trial_rows
from optuna_spark.storage.trial_marks import begun, ended, error_of, failed

DISTRIBUTIONS = {
    "depth": IntDistribution(1, 12),
    "eta": FloatDistribution(0.0, 1.0),
    "deterministic": CategoricalDistribution([True, False]),
    "max_bin": CategoricalDistribution([64, 128]),
    "subsample": CategoricalDistribution([1, 0.5]),
    "grow": CategoricalDistribution(["auto", True, 7, 2.5, None]),
}


def a_trial(value: float | Sequence[float], **params: object) -> FrozenTrial:
    chosen = {"depth": 3, "eta": 1.0, "deterministic": True, "max_bin": 64, "subsample": 1, "grow": "auto"} | params
    values = [value] if isinstance(value, int | float) else value
    return create_trial(values=values, params=chosen, distributions=DISTRIBUTIONS)


def a_study(values: list[float], direction: Literal["minimize", "maximize"] = "minimize") -> optuna.Study:
    study = optuna.create_study(study_name="s", direction=direction)
    study.add_trials(a_trial(v) for v in values)
    return study


def numbers(trials: list[FrozenTrial]) -> list[int]:
    return [t.number for t in trials]


def test_the_best_trials_of_a_minimised_study_are_the_smallest_and_the_earlier_one_wins_a_tie() -> None:
    assert numbers(best_trials(a_study([3, 1, 2, 1]), 3)) == [1, 3, 2]


def test_the_best_trials_of_a_maximised_study_are_the_largest() -> None:
    assert numbers(best_trials(a_study([3, 1, 2, 1], "maximize"), 2)) == [0, 2]


def test_only_complete_trials_can_be_best() -> None:
    study = a_study([5])
    study.add_trial(create_trial(state=TrialState.PRUNED, value=0.0))
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert numbers(best_trials(study, 10)) == [0]


def test_the_pareto_front_is_whole_and_ordered_by_its_values() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trials(a_trial(v) for v in ([2, 2], [1, 1], [3, 3], [3, 2], [1, 0]))
    assert [t.values for t in best_trials(study, 1)] == [[1, 1], [2, 2], [3, 3]]


def test_a_trial_that_breaks_a_constraint_is_not_best() -> None:
    study = a_study([])
    for value, constraint in ((1.0, 0.5), (2.0, -0.5)):
        study.add_trial(create_trial(value=value, constraints={"memory": constraint}))
    assert numbers(best_trials(study, 10)) == [1]


def test_a_study_in_which_every_trial_breaks_a_constraint_says_so() -> None:
    study = a_study([])
    study.add_trial(create_trial(value=1.0, constraints={"memory": 1.0}))
    with pytest.raises(TuningError, match="none of the 1 complete trials of study 's' keeps its constraints"):
        best_trials(study, 1)


def test_a_study_without_complete_trials_names_the_states_and_the_first_error() -> None:
    study = a_study([])
    error = "Traceback ...\nValueError: wrong label 'y'"
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"error": error}))
    study.add_trial(create_trial(state=TrialState.PRUNED, value=1.0))
    with pytest.raises(TuningError, match=r"trials: 1 pruned, 1 fail\); the first .* ValueError: wrong label 'y'"):
        best_params(study, "r")


def test_an_empty_study_has_nothing_to_export() -> None:
    with pytest.raises(TuningError, match="no complete trial to export"):
        best_trials(a_study([]), 1)


def test_top_k_must_be_positive() -> None:
    with pytest.raises(TuningError, match="top_k must be at least 1, got 0"):
        best_trials(a_study([1]), 0)


def test_best_params_holds_exactly_what_a_reader_needs() -> None:
    study = a_study([3, 1, 2])
    complete = study.best_trial.datetime_complete
    assert complete is not None
    assert best_params(study, "manual__1") == {
        "study": "s",
        "run_id": "manual__1",
        "value": 1.0,
        "values": [1.0],
        "directions": ["minimize"],
        "params": dict(a_trial(1).params),
        "trial": 1,
        "datetime": complete.isoformat(),
        "n_trials": 3,
        "metrics": ["value"],
        "rounds": None,
        "fixed": {},
        "found_by": "",
    }


def test_best_params_of_several_directions_has_values_but_no_value() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trials(a_trial(v) for v in ([2, 2], [1, 1]))
    best = best_params(study, "r")
    assert (best["value"], best["values"], best["trial"]) == (None, [1.0, 1.0], 1)
    assert best["directions"] == ["minimize", "maximize"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("depth", 7), ("eta", 1.0), ("deterministic", False), ("max_bin", 128)]
    + [("grow", v) for v in ("auto", True, 7, 2.5, None)],
)
def test_a_parameter_keeps_its_type_through_sqlite_and_json(tmp_path: Path, name: str, value: object) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db")
    study.add_trial(a_trial(1, **{name: value}))
    stored = json.loads(json.dumps(best_params(study, "r")))["params"][name]
    assert (stored, type(stored)) == (value, type(value))
    assert trial_records(study.trials)[0]["params"][name] is stored or stored == value


def test_columns_have_one_type_each() -> None:
    kinds = {c.name: c.kind for c in trial_columns([a_trial(1)], 1)}
    assert {name.removeprefix("params_"): kind for name, kind in kinds.items() if name.startswith("params_")} == {
        "depth": "int",
        "eta": "float",
        "deterministic": "bool",
        "max_bin": "int",
        "subsample": "float",
        "grow": "text",
    }


def test_columns_come_in_a_fixed_order() -> None:
    trial = a_trial(1)
    trial.user_attrs = {"worker": "host:1"}
    assert [c.name for c in trial_columns([trial], 2)] == [
        "number",
        "state",
        "value_0",
        "value_1",
        *(f"params_{name}" for name in DISTRIBUTIONS),
        "user_attrs_worker",
        "datetime_start",
        "datetime_complete",
        "duration_s",
    ]


def test_a_row_has_every_column_and_none_where_the_trial_has_nothing() -> None:
    pruned = create_trial(state=TrialState.FAIL, user_attrs={"error": "x"})
    trials = [a_trial(1), pruned]
    rows = trial_rows(trials, trial_columns(trials, 1))
    assert list(rows[0]) == list(rows[1])
    assert rows[1]["value"] is rows[1]["params_depth"] is rows[0]["user_attrs_error"] is None


@pytest.mark.parametrize(("value", "text"), [("auto", "auto"), (True, "true"), (7, "7"), (2.5, "2.5"), (None, None)])
def test_a_mixed_categorical_is_text_in_tables(value: object, text: str | None) -> None:
    trials = [a_trial(1, grow=value)]
    assert trial_rows(trials, trial_columns(trials, 1))[0]["params_grow"] == text


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int"),
        ([1, 2.5], "float"),
        ([True, False], "bool"),
        ([True, 1], "text"),
        ([2**70], "text"),
        ([2**60, 0.5], "text"),
        (["a"], "text"),
        ([[1, 2]], "text"),
        ([{"a": 1}], "text"),
    ],
)
def test_an_attribute_gets_the_narrowest_type_that_holds_it_exactly(values: list[object], kind: str) -> None:
    trials = [create_trial(value=1.0, user_attrs={"a": v}) for v in values]
    columns = {c.name: c.kind for c in trial_columns(trials, 1)}
    assert columns["user_attrs_a"] == kind


def test_a_nested_attribute_is_json_in_tables_and_itself_in_records() -> None:
    trials = [create_trial(value=1.0, user_attrs={"folds": [1, {"a": None}]})]
    assert trial_rows(trials, trial_columns(trials, 1))[0]["user_attrs_folds"] == '[1, {"a": null}]'
    assert trial_records(trials)[0]["user_attrs"] == {"folds": [1, {"a": None}]}


def test_an_infinite_value_is_still_valid_json() -> None:
    study = a_study([float("inf")])
    assert best_params(study, "r")["values"] == ["inf"]
    json.dumps(trial_records(study.trials), allow_nan=False)


def test_nan_in_a_list_is_text_in_json() -> None:
    assert to_json_value([float("nan"), 1.5]) == ["nan", 1.5]


def test_states_are_counted_without_the_empty_ones() -> None:
    study = a_study([1, 2])
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert state_counts(study.trials) == {"COMPLETE": 2, "FAIL": 1}


@pytest.mark.parametrize(
    "text",
    [
        "mysql+pymysql://tuner:se'cret%{}@db:3306/optuna",
        "OperationalError: mysql://tuner:p/w@x@db/optuna refused",
        "sqlalchemy url 'mysql://se:cret@db/x?charset=utf8mb4'",
    ],
)
def test_credentials_in_a_url_are_masked(text: str) -> None:
    masked = mask_passwords(text)
    assert "://***@db" in masked
    assert not any(secret in masked for secret in ("tuner", "cret", "p/w"))


@pytest.mark.parametrize("text", ["https://example.org/path", "mail me@example.org", "depth: 3 // eta @ 0.1"])
def test_text_without_credentials_is_left_alone(text: str) -> None:
    assert mask_passwords(text) == text


def test_a_snapshot_keeps_numbers_and_masks_attributes_without_changing_the_study() -> None:
    study = a_study([1, 2])
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"error": ["mysql://u:p@h/d"]}))
    copy = snapshot(study)
    study.add_trial(a_trial(0))
    assert numbers(copy.get_trials(deepcopy=False)) == [0, 1, 2]
    assert copy.trials[2].user_attrs == {"error": ["mysql://***@h/d"]}
    assert study.trials[2].user_attrs == {"error": ["mysql://u:p@h/d"]}


def test_the_rows_of_a_snapshot_have_exact_times() -> None:
    """MySQL's columns hold whole seconds."""
    study, start = a_study([]), datetime(2026, 3, 1, 12, 0, 0, 250_000)
    marks = ended(begun("r", "w:1", start), start + timedelta(seconds=0.5))
    trial = create_trial(value=1.0, system_attrs=marks)
    trial.datetime_start = trial.datetime_complete = start.replace(microsecond=0)
    study.add_trial(trial)
    trials = snapshot(study).trials
    (row,) = trial_rows(trials, trial_columns(trials, 1))
    assert (row["datetime_start"], row["duration_s"]) == (start, 0.5)
    assert trial_records(trials)[0]["duration_s"] == 0.5


def test_a_snapshot_masks_the_error_that_a_run_has_noted() -> None:
    study = a_study([])
    marks = {**begun("r"), **failed("OperationalError: mysql://u:p@h/d is gone")}
    study.add_trial(create_trial(state=TrialState.FAIL, system_attrs=marks))
    (trial,) = snapshot(study).trials
    assert error_of(trial) == trial.user_attrs["error"] == "OperationalError: mysql://***@h/d is gone"
    assert "u:p" in str(error_of(study.trials[0]))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_snapshot_keeps_directions_and_metric_names() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names(["loss", "accuracy"])
    copy = snapshot(study)
    assert (copy.directions, copy.metric_names) == (study.directions, ["loss", "accuracy"])
