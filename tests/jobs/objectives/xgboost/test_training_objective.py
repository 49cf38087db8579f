"""XGBoost's own objective by one key: the value is that of a plain program, and what contradicts it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost
from optuna.trial import FixedTrial

from optuna_spark.data.load import load_dataset
from optuna_spark.data.split import split
from optuna_spark.device import Device
from optuna_spark.errors import DataError, SpecError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective, check_objective
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

CPU = Device("cpu", None, 1)
DATA = DataSpec("t.parquet")
DEPTH = {"max_depth": ParamSpec("int", 1, 9)}


def table(shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(0)
    a = rng.random(200)
    return pa.table({"a": a, "b": rng.random(200), "y": rng.poisson(3 * a) + 1.0 + shift})


def spec_of(section: dict[str, Any], **changes: Any) -> TuningSpec:
    settings = {"num_boost_round": 8, **section}
    keys: dict[str, Any] = {"search_space": DEPTH, "seed": 1} | changes
    return TuningSpec("s", objective="xgboost", data=DATA, objective_section=settings, **keys)


def value_of(spec: TuningSpec, rows: pa.Table) -> float:
    objective: Any = build_objective(ObjectiveContext(spec, CPU, rows))
    return float(objective(FixedTrial({"max_depth": 3})))


CASES = [
    ("count:poisson", "poisson-nloglik", {}),
    ("reg:gamma", "gamma-deviance", {}),
    ("reg:tweedie", "tweedie-nloglik@1.3", {"tweedie_variance_power": 1.3}),
    ("reg:quantileerror", "quantile", {"quantile_alpha": 0.9}),
    ("reg:absoluteerror", "mae", {}),
    ("reg:pseudohubererror", "mphe", {"huber_slope": 2.0}),
    ("reg:squaredlogerror", "rmsle", {}),
]


@pytest.mark.parametrize(("objective", "metric", "fixed"), CASES)
def test_it_is_trained_as_by_a_plain_program(objective: str, metric: str, fixed: dict[str, Any]) -> None:
    rows = table()
    value = value_of(spec_of({"objective": objective, "metric": metric, "fixed": fixed}), rows)
    data = load_dataset(DATA, "regression", CPU, rows)
    (part,) = split(data, 0.2, None, 1)
    train, other = (data.features[side] for side in part)
    matrix = xgboost.QuantileDMatrix(train, data.labels.values[part.train])
    judged = xgboost.QuantileDMatrix(other, data.labels.values[part.validation], ref=matrix)
    params = {"objective": objective, "eval_metric": metric, "max_depth": 3, "seed": 1, "nthread": 1, **fixed}
    assert value == float(xgboost.train(params, matrix, 8).eval(judged).rpartition(":")[2])


@pytest.mark.parametrize(
    ("section", "changes", "sentence"),
    [
        ({"objective": "reg:gama"}, {}, "xgboost.objective: must be one of reg:squarederror, "),
        ({"objective": "binary:logistic"}, {}, "xgboost.objective: must be one of reg:squarederror, "),
        (
            {"objective": "reg:gamma", "fixed": {"objective": "reg:tweedie"}},
            {},
            "xgboost.fixed.objective: says 'reg:tweedie', and xgboost.objective 'reg:gamma': remove it",
        ),
        (
            {"objective": "reg:gamma"},
            {"search_space": {"objective": ParamSpec("categorical", choices=("reg:gamma", "reg:tweedie"))}},
            "search_space.objective: xgboost.objective is reg:gamma in every trial: remove one",
        ),
        ({"objective": "reg:quantileerror"}, {}, "xgboost.objective: needs quantile_alpha: give it in xgboost.fixed"),
        (
            {"objective": "reg:gamma", "fixed": {"tweedie_variance_power": 1.5}},
            {},
            "only objective reg:tweedie reads it",
        ),
        ({"metric": "quantile"}, {}, "xgboost.metric: quantile needs xgboost.objective: reg:quantileerror"),
    ],
)
def test_what_contradicts_it_is_one_sentence(section: dict[str, Any], changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as raised:
        check_objective(spec_of(section, **changes))
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("objective", "shift", "sentence"),
    [
        ("count:poisson", -2.0, "objective count:poisson needs labels of at least 0, got "),
        ("reg:tweedie", -2.0, "objective reg:tweedie needs labels of at least 0, got "),
        ("reg:gamma", -1.0, "objective reg:gamma needs labels above 0, got "),
        ("reg:logistic", 0.0, "objective reg:logistic needs labels from 0 to 1, got "),
        ("reg:squaredlogerror", -2.0, "objective reg:squaredlogerror needs labels above -1, got "),
    ],
)
def test_labels_out_of_its_range_are_one_sentence(objective: str, shift: float, sentence: str) -> None:
    for section in ({"objective": objective}, {"fixed": {"objective": objective}}):
        with pytest.raises(DataError) as raised:
            value_of(spec_of(section), table(shift))
        assert sentence in str(raised.value)
