"""Constraints by name and by place: the same model as XGBoost makes of a DataFrame with names, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import xgboost
from optuna.trial import FixedTrial
from sklearn.datasets import load_diabetes

from optuna_spark.data.load import load_dataset
from optuna_spark.data.splits.parts import parts_of
from optuna_spark.device import Device
from optuna_spark.errors import DataError, SpecError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective, check_objective
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.spec.validation import ValidationSpec

CPU = Device("cpu", None, 1)
NAMES = list(load_diabetes().feature_names)
DEPTH = {"max_depth": ParamSpec("int", 1, 9)}


def spec_of(fixed: dict[str, Any], **data: Any) -> TuningSpec:
    settings = {"num_boost_round": 20, "fixed": fixed}
    table = DataSpec("sklearn:diabetes", **data)
    return TuningSpec("s", objective="xgboost", data=table, search_space=DEPTH, seed=1, objective_section=settings)


def value_of(spec: TuningSpec) -> float:
    objective: Any = build_objective(ObjectiveContext(spec, CPU))
    return float(objective(FixedTrial({"max_depth": 4})))


def plain_value(constraints: dict[str, Any]) -> float:
    """Trained on a table with names, by XGBoost's own reading of the constraints."""
    data = load_dataset(DataSpec("sklearn:diabetes"), "regression", CPU)
    ((train, validation),) = parts_of(data, ValidationSpec(), 1)

    def table(rows: Any, like: Any = None) -> xgboost.QuantileDMatrix:
        labels = data.labels.values[rows]
        return xgboost.QuantileDMatrix(data.features[rows], labels, feature_names=NAMES, ref=like)

    matrix = table(train)
    booster = xgboost.train({"max_depth": 4, "seed": 1, "nthread": 1, **constraints}, matrix, 20)
    return float(booster.eval(table(validation, matrix)).rpartition(":")[2])


@pytest.mark.parametrize(
    ("given", "of_xgboost"),
    [
        ({"monotone_constraints": {"bmi": 1, "s5": -1}}, {"monotone_constraints": {"bmi": 1, "s5": -1}}),
        ({"monotone_constraints": [0, 0, 1, 0, 0, 0, 0, 0, -1, 0]}, {"monotone_constraints": {"bmi": 1, "s5": -1}}),
        ({"monotone_constraints": "(0,0,1,0,0,0,0,0,-1,0)"}, {"monotone_constraints": {"bmi": 1, "s5": -1}}),
        ({"interaction_constraints": [["bmi", "age"], ["s5", "bp"]]},
         {"interaction_constraints": [["bmi", "age"], ["s5", "bp"]]}),
        ({"interaction_constraints": [[2, 0], [8, 3]]}, {"interaction_constraints": [["bmi", "age"], ["s5", "bp"]]}),
    ],
)  # fmt: skip
def test_a_constraint_is_that_of_xgboost(given: dict[str, Any], of_xgboost: dict[str, Any]) -> None:
    assert value_of(spec_of(given)) == plain_value(of_xgboost) != plain_value({})


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ({"monotone_constraints": {"bmi2": 1}}, "monotone_constraints names 'bmi2', which is no feature of the table;"),
        ({"monotone_constraints": [1, 0]}, "must hold a number for each of the 10 features, got 2: name features"),
        ({"interaction_constraints": [["age", "bmy"]]}, "interaction_constraints names 'bmy', which is no feature"),
        ({"interaction_constraints": [[0, 10]]}, "must hold places of features from 0 to 9, got 10"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_table_is_one_sentence(fixed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as raised:
        value_of(spec_of(fixed))
    assert sentence in str(raised.value)


def test_features_of_a_table_that_a_run_named_are_not_said() -> None:
    with pytest.raises(DataError, match="'bmi2', which is no feature of the table, of which it has 10") as raised:
        value_of(spec_of({"monotone_constraints": {"bmi2": 1}}, names_in_errors=False))
    assert "s5" not in str(raised.value)


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ({"monotone_constraints": {"bmi": 2}}, "monotone_constraints: must hold 1 (never falls), -1 (never rises)"),
        ({"monotone_constraints": {"bmi": True}}, "got True"),
        ({"monotone_constraints": 1}, "monotone_constraints: must be a mapping such as {age: 1}"),
        ({"monotone_constraints": {}}, "must be a mapping such as {age: 1}"),
        ({"interaction_constraints": ["bmi", "age"]}, "must be a list of lists of features"),
        ({"interaction_constraints": [["bmi", 2]]}, "must hold names of features, or their places counted from 0"),
    ],
)  # fmt: skip
def test_what_is_no_constraint_is_refused_when_the_file_is_read(fixed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as raised:
        check_objective(spec_of(fixed))
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("xgboost.fixed.")
