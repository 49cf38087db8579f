"""The value of a trial is, to the bit, what a plain program of scikit-learn and XGBoost finds on the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # its types are a package of their own
import pyarrow as pa
import pytest
import xgboost
from optuna.trial import FixedTrial
from sklearn.model_selection import PredefinedSplit, TimeSeriesSplit, train_test_split
from sklearn.utils.class_weight import compute_sample_weight

from optuna_spark.data.load import load_dataset
from optuna_spark.data.splits.parts import parts_of
from optuna_spark.data.table import as_chosen
from optuna_spark.device import Device
from optuna_spark.errors import DataError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective
from optuna_spark.objectives.xgboost.metric_tables import LARGER_IS_BETTER, SMALLER_IS_BETTER
from optuna_spark.spec.data import ColumnsSpec, DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.spec.validation import ValidationSpec

CPU = Device("cpu", None, 1)
N, ROUNDS = 300, 12
PARAMS = {"max_depth": 3, "learning_rate": 0.3, "subsample": 0.8}
FEATURES = ["a", "b", "c"]
OBJECTIVE = {"regression": "reg:squarederror", "binary": "binary:logistic", "multiclass": "multi:softprob"}


def frame(task: str) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    table = pd.DataFrame(rng.random((N, 3)), columns=FEATURES)
    table["w"] = rng.random(N) * 3
    table["patient"] = [f"p{number}" for number in rng.integers(0, 40, N)]
    table["day"] = pd.Timestamp("2024-01-31") + pd.to_timedelta(rng.permutation(N), unit="D")
    table["side"] = rng.choice(["train", "validation"], N, p=[0.7, 0.3])
    table["fold"] = rng.integers(-1, 3, N)
    signal = table["a"] * 2 + table["b"] + rng.normal(0, 0.2, N)
    classes = pd.qcut(signal, [0, 0.5, 0.8, 1] if task == "multiclass" else [0, 0.7, 1], labels=False)
    table["y"] = signal.clip(0.05, None) if task == "regression" else classes
    return table


def spec_of(task: str, xgb: dict[str, Any], validation: dict[str, Any], weight: str | None) -> TuningSpec:
    metric = xgb["metric"]
    better = "maximize" if metric.partition("@")[0] in LARGER_IS_BETTER[task] else "minimize"
    # What is in no key is dropped, as a person does it.
    named = {*validation.values(), weight}
    drop = tuple(name for name in ("w", "patient", "day", "side", "fold") if name not in named)
    return TuningSpec(
        "s",
        objective="xgboost",
        directions=(better,),  # type: ignore[arg-type]  # one of the literals
        data=DataSpec("t.parquet", weight=weight, columns=ColumnsSpec(drop=drop)),
        search_space={
            "max_depth": ParamSpec("int", 1, 9),
            "learning_rate": ParamSpec("float", 0.01, 1),
            "subsample": ParamSpec("float", 0.1, 1),
        },
        seed=5,
        validation=ValidationSpec(**validation),
        objective_section={"task": task, "num_boost_round": ROUNDS, **xgb},
    )


def value_of(spec: TuningSpec, table: pd.DataFrame) -> float:
    """The value of one trial, through the way that every distribution shares."""
    objective: Any = build_objective(ObjectiveContext(spec, CPU, as_read(spec, table)))
    return float(objective(FixedTrial(PARAMS)))


def as_read(spec: TuningSpec, table: pd.DataFrame) -> pa.Table:
    assert spec.table is not None
    return as_chosen(pa.Table.from_pandas(table, preserve_index=False), spec.table)


def our_rows(spec: TuningSpec, table: pd.DataFrame) -> list[Any]:
    assert spec.table is not None
    task = spec.objective_section["task"]
    return [
        tuple(part)
        for part in parts_of(load_dataset(spec.table, task, CPU, as_read(spec, table)), spec.validation, spec.seed)
    ]


def plain_value(table: pd.DataFrame, parts: list[Any], task: str, metric: str, **more: Any) -> float:
    """What a program without this package does: a matrix for each side, training, and XGBoost's own evaluation."""
    params = {**PARAMS, "objective": OBJECTIVE[task], "eval_metric": metric, "seed": 5, "nthread": 1}
    params |= {"num_class": 3} if task == "multiclass" else {}
    boosters = []
    for train, validation in parts:
        known, unknown = table.iloc[train], table.iloc[validation]
        weights, judged = (None, None) if more.get("weight") is None else (known["w"], unknown["w"])
        if more.get("balanced"):
            weights = compute_sample_weight("balanced", known["y"]) * (1.0 if weights is None else weights)
        matrix = xgboost.QuantileDMatrix(known[FEATURES], known["y"], weight=weights)
        other = xgboost.QuantileDMatrix(unknown[FEATURES], unknown["y"], weight=judged, ref=matrix)
        boosters.append((xgboost.Booster(params, [matrix, other]), matrix, other))
    for number in range(ROUNDS):  # as xgboost.cv: all folds draw from the same random numbers
        for booster, matrix, _ in boosters:
            booster.update(matrix, number)
    return float(np.mean([float(booster.eval(other).rpartition(":")[2]) for booster, _, other in boosters]))


def sklearns_rows(validation: dict[str, Any], table: pd.DataFrame) -> list[Any] | None:
    """The rows as scikit-learn divides them, where it has no chance in it."""
    by_day = np.argsort(table["day"].to_numpy())
    folds = validation.get("folds")
    if "split" in validation:
        column = table[validation["split"]]
        number = column.map({"train": -1, "validation": 0}) if validation["split"] == "side" else column
        return list(PredefinedSplit(number).split())
    if "time" in validation and folds:
        return [(by_day[train], by_day[test]) for train, test in TimeSeriesSplit(folds).split(by_day)]
    if "time" in validation:
        return [train_test_split(by_day, test_size=validation.get("holdout", 0.2), shuffle=False)]
    return None


SPLITS = [
    {},
    {"holdout": 0.35, "seed": 11},
    {"folds": 4},
    {"folds": 4, "stratify": False},
    {"group": "patient"},
    {"group": "patient", "folds": 3},
    {"time": "day"},
    {"time": "day", "folds": 4},
    {"split": "side"},
    {"split": "fold"},
]
METRICS = [
    (task, metric)
    for task in OBJECTIVE
    for metric in (*SMALLER_IS_BETTER[task], *LARGER_IS_BETTER[task])
    if metric != "quantile"  # of another objective
]


@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("validation", SPLITS, ids=str)
@pytest.mark.parametrize("task", OBJECTIVE)
def test_each_split(task: str, validation: dict[str, Any], weight: str | None) -> None:
    if task == "regression":
        validation = {name: value for name, value in validation.items() if name != "stratify"}
    table, metric = frame(task), {"regression": "rmse", "binary": "logloss", "multiclass": "mlogloss"}[task]
    spec = spec_of(task, {"metric": metric}, validation, weight)
    rows = our_rows(spec, table)
    assert value_of(spec, table) == plain_value(table, rows, task, metric, weight=weight)
    if (sklearns := sklearns_rows(validation, table)) is not None:
        assert [tuple(map(set, part)) for part in rows] == [tuple(map(set, part)) for part in sklearns]


@pytest.mark.parametrize(("task", "metric"), METRICS)
def test_each_metric_counts_weights(task: str, metric: str) -> None:
    metric = {"tweedie-nloglik": "tweedie-nloglik@1.5"}.get(metric, metric)
    table = frame(task)
    if metric == "logloss" and task == "regression":
        table["y"] = table["y"].clip(0, 1)
    found = {}
    for weight in (None, "w"):
        spec = spec_of(task, {"metric": metric}, {}, weight)
        found[weight] = value_of(spec, table)
        assert found[weight] == plain_value(table, our_rows(spec, table), task, metric, weight=weight)
    assert found[None] != found["w"]


@pytest.mark.parametrize("weight", [None, "w"])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_balanced_classes_are_those_of_scikit_learn(task: str, weight: str | None) -> None:
    table, metric = frame(task), "logloss" if task == "binary" else "mlogloss"
    spec = spec_of(task, {"metric": metric, "class_weight": "balanced"}, {"folds": 3}, weight)
    plain = plain_value(table, our_rows(spec, table), task, metric, weight=weight, balanced=True)
    assert value_of(spec, table) == plain
    without = spec_of(task, {"metric": metric}, {"folds": 3}, weight)
    assert value_of(without, table) != plain


BAD_WEIGHTS = {
    "must hold finite weights of at least 0, got 1 that are not (first in row 3)": lambda w: w.mask(w.index == 2, -1.0),
    "got 2 that are not (first in row 2)": lambda w: w.mask(w.index.isin([1, 5]), np.inf),
    "must hold a weight above 0, got 0 in every row": lambda w: w * 0,
    "must hold a value in every row, got 1 empty or NaN (first in row 1)": lambda w: w.mask(w.index == 0),
    "must hold numbers, got a value of type large_string": lambda w: w.astype(str),
}


@pytest.mark.parametrize("sentence", BAD_WEIGHTS)
def test_weights_that_cannot_be_are_one_sentence(sentence: str) -> None:
    table = frame("regression")
    table["w"] = BAD_WEIGHTS[sentence](table["w"])
    with pytest.raises(DataError) as raised:
        value_of(spec_of("regression", {"metric": "rmse"}, {}, "w"), table)
    assert sentence in str(raised.value)
    assert "data.weight: column 'w' of t.parquet" in str(raised.value)


def test_a_side_without_weight_is_one_sentence() -> None:
    table = frame("regression")
    table["w"] = (table["side"] == "train") * 1.0
    with pytest.raises(
        DataError, match=r"data.weight: column 'w' of t.parquet is 0 in all .* validation rows of part 1"
    ):
        value_of(spec_of("regression", {"metric": "rmse"}, {"split": "side"}, "w"), table)
