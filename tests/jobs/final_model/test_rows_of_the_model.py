"""The final model counts weights and keeps constraints as the trials did, and its columns are theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from sklearn.utils.class_weight import compute_sample_weight

from optuna_spark.data.load import load_dataset
from optuna_spark.device import Device
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import train_model
from optuna_spark.objectives.trained_model import TrainedModel
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.model import ModelOrder, ModelSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.spec.validation import ValidationSpec

CPU = Device("cpu", None, 1)
N = 400


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    a, b = rng.random(N), rng.random(N)
    classes = np.digitize(a + 0.3 * rng.standard_normal(N), (0.8,))
    columns = {"a": a, "b": b, "w": rng.random(N), "who": rng.integers(0, 40, N), "y": classes}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def spec_of(path: Path, **section: Any) -> TuningSpec:
    return TuningSpec(
        "s",
        objective="xgboost",
        data=DataSpec(str(path), weight="w", test=0.25),
        validation=ValidationSpec(group="who"),
        objective_section={"task": "binary", "num_boost_round": 10, **section},
        search_space={"max_depth": ParamSpec("int", 1, 6)},
        model=ModelSpec(),
        seed=1,
    )


def trained(spec: TuningSpec) -> TrainedModel:
    order = ModelOrder(0, {"max_depth": 4}, (0.5,), ("logloss",), {}, 10, {})
    return train_model(ObjectiveContext(spec, CPU), order)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_it_is_that_of_a_plain_program_with_weights_and_constraints(class_weight: str | None, table: Path) -> None:
    constraint = {"monotone_constraints": {"b": -1}}
    spec = spec_of(table, class_weight=class_weight, fixed=constraint)
    model = trained(spec)
    assert [name for name, _ in model.features] == ["a", "b"]
    assert spec.table is not None
    data = load_dataset(spec.table, "binary", CPU)
    rows, test, labels = data.training_rows, data.test_rows, data.labels.values
    weights = pq.read_table(table)["w"].to_numpy()
    known = weights[rows] * (compute_sample_weight("balanced", labels[rows]) if class_weight else 1)
    train = xgboost.QuantileDMatrix(data.features[rows], labels[rows], weight=known, feature_names=["a", "b"])
    params = {"objective": "binary:logistic", "max_depth": 4, "seed": 1, "nthread": 1, **constraint}
    expected = xgboost.train(params, train, 10)
    judged = xgboost.DMatrix(data.features[test], labels[test], weight=weights[test], feature_names=["a", "b"])
    booster = xgboost.Booster()
    booster.load_model(bytearray(model.content))
    assert booster.predict(judged).tobytes() == expected.predict(judged).tobytes()
    assert model.test_values == (float(expected.eval(judged).rpartition(":")[2]),)
