"""After a reset on harder data a result is published when it beats what was published last, on the same data."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from tests.support.airflow import DagFolder, migrated_home
from tests.support.connections import SPARK, TUNING, set_connection
from tests.support.servers import spark_environment

pytestmark = pytest.mark.slow

STUDY = """objective: harder:objective
search_space: {x: {type: float, low: 0, high: 9}}
enqueue: [{x: 2}, {x: 5}]
trials: 3
tasks: 1
seed: 1
distribution: rdd
retries: 0
retune: {publish: better, mode: reset}
spark:
  executor_memory: 512m
  conf: {spark.ui.enabled: false}
"""
EASY, HARDER = (2, 0), (5, 100)  # where the lowest value is, and how low it is


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark_cluster: SparkCluster) -> DagFolder:
    migrated_home()
    folder = DagFolder.create(tmp_path / "dags", again=f"{STUDY}study: {tmp_path.name}\n")
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    monkeypatch.setenv("TUNING_SPARK_ENV", str(spark_environment()))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PATH", f"{REPOSITORY}/init/spark/bin:{os.environ['PATH']}")
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=spark_cluster.port)
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=str(tmp_path / "study.db"))
    return folder


def run_on(folder: DagFolder, data: tuple[int, int]) -> tuple[dict[str, object], list[float]]:
    """What the study has published last after a run on this data, and the x of the run's trials."""
    place, lowest = data
    code = f"def objective(trial):\n    return (trial.suggest_float('x', 0, 9) - {place}) ** 2 + {lowest}\n"
    folder.path.joinpath("studies", "harder.py").write_text(code)
    assert set(folder.test("tune_again").values()) == {"success"}
    exports = folder.path.parent / "exports" / folder.path.parent.name
    noted = json.loads((exports / ".published.json").read_text())
    with (exports / "latest" / "trials.csv").open() as trials:
        return noted, [float(row["params_x"]) for row in csv.DictReader(trials)]


def test_a_reset_on_harder_data_runs_what_was_published_once_more_and_compares_there(folder: DagFolder) -> None:
    noted, tried = run_on(folder, EASY)
    assert (noted["value"], noted["params"], tried[:2]) == (0.0, {"x": 2.0}, [2.0, 5.0])
    noted, tried = run_on(folder, HARDER)
    assert (noted["value"], noted["params"], tried[:2]) == (100.0, {"x": 5.0}, [2.0, 5.0])
    first = noted["run_id"]
    noted, tried = run_on(folder, HARDER)
    assert (noted["run_id"], tried[:2]) == (first, [5.0, 2.0]), "nothing is better than what was published"
