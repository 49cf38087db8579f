"""An objective of one's own gets the same table whichever way its worker was started."""

from __future__ import annotations

import json
import re
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.trial import FrozenTrial, TrialState

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from optuna_spark.driver.run import tune
from optuna_spark.spec.data import DataSpec, TestColumn
from optuna_spark.spec.run_keys import COORDINATIONS, DISTRIBUTIONS
from optuna_spark.spec.tuning import TuningSpec
from tests.support.submit import submit

ROWS = {"town": ["Ulm", "Bonn", None, "Ulm"], "rooms": [2, 3, 4, None], "price": [10.5, 20.0, 30.0, 40.0]}
CSV = "town;rooms;price\nUlm;2;10.5\nBonn;3;20.0\n;4;30.0\nUlm;;40.0\n"
# The same rows, and a test row among them, which no trial may see.
HELD_ROWS = {"held": [False, True, False, False, False], "town": ["Ulm", "Jena", "Bonn", None, "Ulm"],
             "rooms": [2, 9, 3, 4, None], "price": [10.5, 99.0, 20.0, 30.0, 40.0]}  # fmt: skip
HELD_CSV = (
    "held;town;rooms;price\nfalse;Ulm;2;10.5\ntrue;Jena;9;99.0\nfalse;Bonn;3;20.0\nfalse;;4;30.0\nfalse;Ulm;;40.0\n"
)
# Each way to start workers on Spark, and each file.
ON_SPARK = [
    (kind, way, coordination)
    for way in DISTRIBUTIONS
    if way != "local"
    for kind, coordination in zip(("csv", "parquet"), COORDINATIONS, strict=True)
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "t.csv").write_text(CSV)
    pq.write_table(pa.table(ROWS), folder / "t.parquet")
    (folder / "held.csv").write_text(HELD_CSV)
    pq.write_table(pa.table(HELD_ROWS), folder / "held.parquet")
    return {f"{name}{kind}": folder / f"{name or 't.'}{kind}" for name in ("", "held.") for kind in ("csv", "parquet")}


def spec_of(file: Path, distribution: str, coordination: str) -> TuningSpec:
    name = f"{distribution}-{coordination}-{file.stem}-{file.suffix[1:]}"
    test = TestColumn("held") if file.stem == "held" else None
    return TuningSpec(
        name,
        objective="sample_objectives:table_content",
        data=DataSpec(str(file), separator=";", test=test),
        distribution=distribution,  # type: ignore[arg-type]  # one of the literals
        coordination=coordination,  # type: ignore[arg-type]
        trials=2,
        run_id=name,
    )


def check_tables(url: str, spec: TuningSpec) -> None:
    trials: list[FrozenTrial] = optuna.load_study(study_name=spec.study_name, storage=url).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert [trial.user_attrs["table"] for trial in trials] == [ROWS] * 2
    assert [trial.user_attrs["spark_read_it"] for trial in trials] == [spec.distribution == "dataframe"] * 2


@pytest.mark.parametrize("coordination", COORDINATIONS)
def test_workers_without_spark_read_the_table(coordination: str, files: dict[str, Path], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    for file in files.values():
        spec = spec_of(file, "local", coordination)
        tune(spec, url)
        check_tables(url, spec)


@pytest.mark.slow
def test_workers_get_the_same_table_under_every_distribution(
    spark_cluster: SparkCluster, files: dict[str, Path], tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    specs = [spec_of(files[kind], *way) for kind, *way in ON_SPARK]
    specs += [spec_of(files[f"held.{kind}"], *way) for kind, *way in ON_SPARK]
    done = submit(
        spark_cluster.master_url,
        tmp_path,
        [spec.to_json() for spec in specs],
        program=REPOSITORY / "tests" / "jobs" / "every_reader.py",
        OPTUNA_STORAGE_URL=url,
    )
    cards = dict(re.findall(r"^card of (\S+): (.*)$", done.stdout, re.MULTILINE))
    found = {run: json.loads(card)["error"] for run, card in cards.items()}
    assert found == {spec.run_id: "none" for spec in specs}, done.stdout[-3000:]
    for spec in specs:
        check_tables(url, spec)
