"""The section `validation` of a run: what fits together, and the places where two of its keys stood before."""

from __future__ import annotations

from typing import Any

import pytest

from optuna_spark.errors import SpecError
from optuna_spark.objectives.registry import check_objective
from optuna_spark.objectives.xgboost.section import validation_of
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.spec.validation import ValidationSpec


def spec(xgboost: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **validation: Any) -> TuningSpec:
    return TuningSpec(
        "s",
        objective="xgboost",
        data=DataSpec("t.csv", **(data or {})),
        validation=ValidationSpec(**validation),
        objective_section=xgboost or {},
    )


def test_the_former_places_still_count() -> None:
    assert validation_of(spec({"folds": 3, "holdout": 0.5})) == ValidationSpec(folds=3, holdout=0.5)
    assert validation_of(spec({"folds": 3}, holdout=0.5)) == ValidationSpec(folds=3, holdout=0.5)


def test_the_section_crosses_to_the_cluster() -> None:
    whole = spec(folds=3, group="g", seed=4)
    assert TuningSpec.from_json(whole.to_json()) == whole


@pytest.mark.parametrize(
    ("xgboost", "data", "validation", "sentence"),
    [
        ({"folds": 3}, {}, {"folds": 3}, "validation.folds: is given there and as xgboost.folds: remove the latter"),
        ({"holdout": 0.1}, {}, {"split": "s"}, "validation: split already decides which rows validate: remove holdout"),
        ({}, {}, {"split": "s", "time": "t"}, "split already decides which rows validate: remove time"),
        ({}, {}, {"time": "t", "group": "g"}, "time already decides which rows validate: remove group"),
        ({}, {}, {"time": "t", "stratify": True}, "remove stratify"),
        ({}, {}, {"stratify": True}, "validation.stratify: is for classes, and xgboost.task is regression: remove it"),
        ({}, {"label": "g"}, {"group": "g"}, "validation.group: must name another column than data.label, got 'g'"),
        ({}, {"label": "w", "weight": "w"}, {}, "data.weight: must name another column than data.label, got 'w'"),
        ({}, {"weight": "w"}, {"time": "w"}, "data.weight: must name another column than validation does, got 'w'"),
        ({}, {}, {"holdout": 1}, "holdout must be between 0 and 1"),
        ({"class_weight": "balanced"}, {}, {}, "class_weight is for classes: set task to binary or multiclass"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    xgboost: dict[str, Any], data: dict[str, Any], validation: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError) as raised:
        check_objective(spec(xgboost, data, **validation))
    assert sentence in str(raised.value)


def test_an_objective_that_divides_no_rows_is_given_no_section() -> None:
    for objective in ("quadratic", "mine:objective"):
        run = TuningSpec("s", objective=objective, data=DataSpec("t.csv"), validation=ValidationSpec(folds=3))
        with pytest.raises(SpecError, match=r"validation: is for objectives of a table, .* remove folds"):
            check_objective(run)
    with pytest.raises(SpecError, match=r"validation: needs a table to divide: give data.path, or remove folds"):
        TuningSpec("s", validation=ValidationSpec(folds=3))
