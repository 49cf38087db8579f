"""A trial as a run of MLflow, within what MLflow takes."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.tracking.child_run import child_run


def trial(**fields: Any) -> FrozenTrial:
    made = optuna.create_trial(**{"state": TrialState.COMPLETE, "value": 1.5} | fields)
    made.number = 7
    made.datetime_start, made.datetime_complete = datetime(2026, 1, 31, 12), datetime(2026, 1, 31, 12, 0, 2)
    return made


def test_parameters_are_the_values_of_the_trial() -> None:
    space = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution((None, "a", True))}
    assert child_run(trial(params={"x": 0.1, "kind": None}, distributions=space)).params == {"x": "0.1", "kind": "None"}


def test_values_duration_and_history_are_metrics() -> None:
    two = {"value": None, "values": [1.0, 2.0]}
    found = child_run(trial(**two, intermediate_values={3: 0.5, 1: math.nan}), ("a", "b")).metrics
    assert [(point.key, point.value) for point in found[:3]] == [("a", 1), ("b", 2), ("duration_s", 2)]
    assert [point.step for point in found[3:]] == [1, 3]
    assert [point.key for point in child_run(trial(**two)).metrics][:2] == ["value_0", "value_1"]


def test_user_attributes_cannot_be_taken_for_mlflows_own_tags() -> None:
    tags = child_run(trial(user_attrs={"mlflow.parentRunId": "other", "device": "cuda:0", "n": {"a": 1}})).tags
    assert tags["user_attrs.mlflow.parentRunId"] == "other"
    assert "mlflow.parentRunId" not in tags
    assert (tags["optuna.device"], tags["user_attrs.n"]) == ("cuda:0", '{"a": 1}')


def test_passwords_in_addresses_are_masked() -> None:
    assert child_run(trial(user_attrs={"db": "mysql://joe:hush@h/d"})).tags["user_attrs.db"] == "mysql://***@h/d"


def test_what_mlflow_does_not_take_is_changed_with_a_note() -> None:
    names = ["a[0]", "a(0)", "../up", "/root", "p" * 300]
    space = dict.fromkeys(names, FloatDistribution(0, 1))
    found = child_run(trial(params=dict.fromkeys(names, 0.5), distributions=space, user_attrs={"long": "x" * 9_000}))
    assert len(found.params) == len(names)
    assert all(len(name) <= 250 and not set(name) & set("[]()/") and ".." not in name for name in found.params)
    assert len(found.tags["user_attrs.long"]) == 8_000
    assert "'a[0]' is called a_0__" in found.tags["optuna_spark.note"]
    assert "user_attrs.long has 8000 of 9000 characters" in found.tags["optuna_spark.note"]
    assert "optuna_spark.note" not in child_run(trial()).tags


def test_infinity_has_a_note_since_mlflows_databases_have_none() -> None:
    assert "value is inf" in child_run(trial(value=math.inf)).tags["optuna_spark.note"]


def test_the_same_trial_gives_the_same_run_twice() -> None:
    assert child_run(trial(user_attrs={"a": 1})) == child_run(trial(user_attrs={"a": 1}))
