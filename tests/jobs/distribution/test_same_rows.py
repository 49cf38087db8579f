"""Weights and the split by columns reach workers in the same way, however they were started."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.csv
import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from optuna_spark.driver.run import tune
from optuna_spark.spec.data import ColumnsSpec, DataSpec
from optuna_spark.spec.run_keys import DISTRIBUTIONS
from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.spec.validation import ValidationSpec
from tests.support.submit import submit

N = 200
RULES = {
    "group": ValidationSpec(group="who", folds=3),
    "time": ValidationSpec(time="day"),
    "split": ValidationSpec(split="side"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    columns = {
        "a": rng.random(N),
        "who": [f"p{number}" for number in rng.integers(0, 20, N)],
        "day": np.datetime64("2024-01-31") + rng.permutation(N),
        "side": rng.choice(["train", "validation"], N),
        "w": rng.random(N),
        "y": rng.random(N),
    }
    pa.csv.write_csv(pa.table(columns), tmp_path / "t.csv")
    return tmp_path / "t.csv"


def spec_of(file: Path, rule: str, distribution: str) -> TuningSpec:
    drop = tuple(name for name in ("who", "day", "side", "w"))  # none is a feature, and those that are named are read
    return TuningSpec(
        f"{rule}-{distribution}",
        objective="xgboost",
        data=DataSpec(str(file), weight="w", columns=ColumnsSpec(drop=drop)),
        validation=RULES[rule],
        objective_section={"num_boost_round": 5},
        search_space={"max_depth": ParamSpec("categorical", choices=(2, 3))},
        sampler=ComponentSpec("BruteForceSampler"),
        distribution=distribution,  # type: ignore[arg-type]  # one of the literals
        trials=2,
        tasks=1,
        seed=1,
        run_id=f"{rule}-{distribution}",
    )


def values(url: str, spec: TuningSpec) -> dict[int, float | None]:
    trials = optuna.load_study(study_name=spec.study_name, storage=url).trials
    return {trial.params["max_depth"]: trial.value for trial in trials}


@pytest.mark.slow
def test_every_distribution_divides_and_weighs_the_rows_alike(
    spark_cluster: SparkCluster, file: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    ways = [way for way in DISTRIBUTIONS if way != "local"]
    specs = [spec_of(file, rule, way) for rule in RULES for way in ways]
    program = REPOSITORY / "tests" / "jobs" / "every_reader.py"
    texts = [spec.to_json() for spec in specs]
    done = submit(spark_cluster.master_url, tmp_path, texts, program=program, OPTUNA_STORAGE_URL=url)
    cards = dict(re.findall(r"^card of (\S+): (.*)$", done.stdout, re.MULTILINE))
    assert {run: json.loads(card)["error"] for run, card in cards.items()} == {spec.run_id: "none" for spec in specs}, (
        done.stdout[-3000:]
    )
    for rule in RULES:
        local = spec_of(file, rule, "local")
        tune(local, url)
        expected = values(url, local)
        assert len(expected) == 2
        for way in ways:
            assert values(url, spec_of(file, rule, way)) == expected
