"""Trials on tables with categories: the values are those of a plain program with pandas and XGBoost."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # its stubs are a package of their own
import pyarrow as pa
import pytest
import xgboost
from optuna.trial import FixedTrial

from optuna_spark.data.load import forget_datasets, load_dataset
from optuna_spark.data.split import split
from optuna_spark.device import Device
from optuna_spark.errors import DataError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective
from optuna_spark.objectives.xgboost import matrices
from optuna_spark.objectives.xgboost.unseen import MOST
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

CPU = Device("cpu", None, 1)
DATA = DataSpec("handed over")
ROUNDS = 20
PARAMS = {"learning_rate": 0.3, "max_depth": 4, "max_cat_to_onehot": 4, "max_cat_threshold": 8}
SPACE = {
    "learning_rate": ParamSpec("float", 0.1, 0.5),
    "max_depth": ParamSpec("int", 1, 10),
    "max_cat_to_onehot": ParamSpec("int", 1, 100),
    "max_cat_threshold": ParamSpec("int", 1, 64),
}


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    forget_datasets()
    matrices._matrices.clear()


def frame(n_towns: int = 12, n_rows: int = 600, once: int = 0) -> pd.DataFrame:
    """Rows with two columns of texts and a number; the first rows have towns of their own."""
    random = np.random.default_rng(0)
    town, kind = random.integers(0, n_towns, n_rows), random.integers(0, 3, n_rows)
    size = random.normal(size=n_rows)
    price = random.normal(size=n_towns)[town] * 5 + kind + size
    towns = np.array([f"town {i}" for i in town], dtype=object)
    towns[::50] = None
    towns[:once] = [f"zz {i}" for i in range(once)]  # the last in order: XGBoost would take them for the one before
    kinds = np.array(["flat", "house", "castle"], dtype=object)[kind]
    return pd.DataFrame({"town": towns, "size": size.astype(np.float32), "kind": kinds, "price": price})


def spec(params: Any = None, **section: Any) -> TuningSpec:
    settings = {"num_boost_round": ROUNDS, **section}
    return TuningSpec(
        "s", objective="xgboost", data=DATA, objective_section=settings, seed=1, search_space=params or SPACE
    )


def objective(rows: pd.DataFrame, **section: Any) -> Any:
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    return build_objective(ObjectiveContext(spec(**section), CPU, table))


def plain_value(rows: pd.DataFrame, folds: int | None = None, *, quantile: bool = True) -> float:
    """The same by a program that knows of no more than pandas and XGBoost, on the same rows.

    Each category is known to the training, as in the table; one that only validation rows have is missing there.
    """
    table = pa.Table.from_pandas(rows, preserve_index=False)
    parts = split(load_dataset(DATA, "regression", CPU, table), 0.2, folds, 1)
    features = rows.drop(columns="price").astype({"town": "category", "kind": "category"})
    scores = []
    for part in parts:
        train, check = features.iloc[part.train], features.iloc[part.validation].copy()
        check["town"] = check["town"].where(check["town"].isin(train["town"].dropna()))
        label = rows["price"].to_numpy(np.float32)
        fit = xgboost.QuantileDMatrix(train, label[part.train], enable_categorical=True, nthread=1)
        kind = {"ref": fit} if quantile else {}
        judge = (xgboost.QuantileDMatrix if quantile else xgboost.DMatrix)(
            check, label[part.validation], enable_categorical=True, nthread=1, **kind
        )
        booster = xgboost.train({**PARAMS, "seed": 1, "nthread": 1, "tree_method": "hist"}, fit, ROUNDS)
        text = booster.eval_set([(judge, "v")], ROUNDS - 1)
        scores.append(float(text.rpartition(":")[2]))
    return float(np.mean(scores))


@pytest.mark.parametrize("folds", [None, 3])
def test_a_value_is_that_of_a_plain_program_with_categories_of_pandas(folds: int | None) -> None:
    rows = frame()
    assert objective(rows, folds=folds)(FixedTrial(PARAMS)) == plain_value(rows, folds)


@pytest.mark.parametrize("quantile", [True, False])
def test_categories_that_only_validation_rows_have_are_missing_there(quantile: bool) -> None:
    rows = frame(once=60)
    assert objective(rows, folds=3)(FixedTrial(PARAMS)) == plain_value(rows, 3, quantile=quantile)


def test_categories_matter() -> None:
    rows = frame()
    codes = rows.assign(town=rows["town"].astype("category").cat.codes, kind=rows["kind"].astype("category").cat.codes)
    assert objective(rows)(FixedTrial(PARAMS)) != objective(codes)(FixedTrial(PARAMS))
    one_by_one = PARAMS | {"max_cat_to_onehot": 100}
    assert objective(rows)(FixedTrial(PARAMS)) != objective(rows)(FixedTrial(one_by_one))


def test_a_table_read_in_many_blocks_has_the_same_value(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = frame(once=60)
    whole = objective(rows)(FixedTrial(PARAMS))
    matrices._matrices.clear()
    monkeypatch.setattr(matrices, "BLOCK_ROWS", 7)
    assert objective(rows)(FixedTrial(PARAMS)) == whole


def test_they_are_told_in_log_and_trial(caplog: pytest.LogCaptureFixture) -> None:
    rows = frame(once=60)
    trial = FixedTrial(PARAMS)
    with caplog.at_level(logging.WARNING):
        objective(rows, folds=3)(trial)
    assert trial.user_attrs["unseen_categories"] == {"town": 60}  # each in one fold
    (record,) = [record for record in caplog.records if "category that no training row has" in record.getMessage()]
    assert "{'town': 60}" in record.getMessage()
    assert "zz" not in record.getMessage()


def test_of_many_features_the_twenty_with_the_most_rows_are_told() -> None:
    rows = frame(once=2)
    for i in range(MOST):
        rows.insert(0, f"c{i}", [f"zz {j}" if j < i + 3 else "same" for j in range(len(rows))])
    trial = FixedTrial(PARAMS)
    objective(rows, folds=3)(trial)
    assert list(trial.user_attrs["unseen_categories"].items()) == [(f"c{i}", i + 3) for i in reversed(range(MOST))]


def test_a_table_whose_columns_errors_may_not_name_has_numbers_of_features() -> None:
    rows = frame(once=60)
    trial = FixedTrial(PARAMS)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    hidden = replace(spec(folds=3), data=replace(DATA, names_in_errors=False))
    build_objective(ObjectiveContext(hidden, CPU, table))(trial)
    assert trial.user_attrs["unseen_categories"] == {"feature 1": 60}


def test_without_such_categories_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    trial = FixedTrial(PARAMS)
    with caplog.at_level(logging.WARNING):
        objective(frame())(trial)
    assert "unseen_categories" not in trial.user_attrs
    assert not caplog.records


def test_a_column_with_no_value_in_the_training_rows_trains() -> None:
    rows = frame()
    table = pa.Table.from_pandas(rows, preserve_index=False)
    (part,) = split(load_dataset(DATA, "regression", CPU, table), 0.2, None, 1)
    rows["town"] = None
    rows.loc[part.validation[0], "town"] = "Ulm"
    assert np.isfinite(objective(rows)(FixedTrial(PARAMS)))


def test_trees_that_take_no_categories_are_refused() -> None:
    rows = frame()
    rows["price"] = pd.cut(rows["price"], 3, labels=False)
    section = {"task": "multiclass", "fixed": {"multi_strategy": "multi_output_tree"}}
    with pytest.raises(DataError, match=r"multi_output_tree takes no categories, and 2 features are some: use one_out"):
        objective(rows, **section)
