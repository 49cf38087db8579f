"""Each file of the conformance suite gives the same on a GPU, where cuDF reads what it can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from optuna.trial import FixedTrial

from optuna_spark.device import Device
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.jobs.data.table_files import CASES
from tests.jobs.read_tables import facts


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_is_given_the_same(tmp_path: Path, name: str) -> None:
    pytest.importorskip("cudf")
    case = CASES[name]
    given = {"path": case.write(tmp_path), **case.given}
    assert facts(given, case.task, device="cuda") == facts(given, case.task)


def test_trials_on_categories_agree_with_the_cpu() -> None:
    random = np.random.default_rng(0)
    town = random.integers(0, 12, 600)
    towns = [f"only here {i}" if i < 60 else f"town {town[i]}" for i in range(600)]
    table = pa.table({"town": towns, "size": random.normal(size=600), "price": town * 3 + random.normal(size=600)})
    spec = TuningSpec(
        "s",
        objective="xgboost",
        data=DataSpec("handed over"),
        objective_section={"num_boost_round": 20, "folds": 3},
        search_space={"max_cat_to_onehot": ParamSpec("int", 1, 100)},
        seed=1,
    )
    params = {"max_cat_to_onehot": 4}
    values = []
    for device in (Device("cuda", 0, 1), Device("cpu", None, 1)):
        trial = FixedTrial(params)
        values.append(build_objective(ObjectiveContext(spec, device, table))(trial))
        assert trial.user_attrs["unseen_categories"] == {"town": 60}
    assert values[0] == pytest.approx(values[1], rel=0.05)
