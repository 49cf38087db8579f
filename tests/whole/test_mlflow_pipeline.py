"""The whole chain with a mirror in MLflow: Airflow, Spark, and an MLflow server with a login."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from tests.support.airflow import DagFolder, migrated_home
from tests.support.connections import SPARK, TUNING, set_connection
from tests.support.mlflow_server import Guarded, MlflowServer, guarded
from tests.support.processes import CommandLines
from tests.support.servers import spark_environment
from tests.whole.test_pipeline import everything_airflow_keeps
from tuning_pipeline.commands.__main__ import main

pytestmark = pytest.mark.slow

HUSH = "hush-of-mlflow"
STUDY = {
    "objective": "quadratic",
    "retries": 0,
    "trials": 6,
    "tasks": 1,
    "distribution": "rdd",
    "tracking": {"mlflow": "my_mlflow", "experiment": "from Airflow"},
    "spark": {"executor_memory": "512m", "conf": {"spark.ui.enabled": False}},
}


@pytest.fixture
def door(mlflow_server: MlflowServer) -> Iterator[Guarded]:
    with guarded(mlflow_server.uri, f"Bearer {HUSH}") as door:
        yield door


@pytest.fixture
def folder(door: Guarded, tmp_path: Path, spark_cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch) -> DagFolder:
    migrated_home()
    folder = DagFolder.create(tmp_path / "dags", mirrored=json.dumps(STUDY))
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    monkeypatch.setenv("TUNING_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TUNING_SPARK_ENV", str(spark_environment()))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PATH", f"{REPOSITORY}/init/spark/bin:{os.environ['PATH']}")
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=spark_cluster.port)
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=f"{tmp_path}/study.db")
    set_connection(
        monkeypatch, "my_mlflow", conn_type="http", host="127.0.0.1", port=door.server_address[1], password=HUSH
    )
    return folder


@pytest.mark.attack(
    "data sources", "MLflow's token looked for in ps, the log, rendered fields, XComs, exports", times=5
)
def test_a_run_is_mirrored_and_nobody_sees_the_token(
    folder: DagFolder,
    door: Guarded,
    mlflow_server: MlflowServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with CommandLines() as lines:
        assert set(folder.test("tune_mirrored").values()) == {"success"}
    output = "".join(capfd.readouterr())
    assert "MLflow has the study's 6 trials" in caplog.text
    assert (door.let_in > 0, door.turned_away) == (True, 0)
    values = children(mlflow_server)
    study = optuna.load_study(study_name="mirrored", storage=f"sqlite:///{tmp_path}/study.db")
    assert values == {trial.number: trial.value for trial in study.get_trials()}

    assert lines.holding("tracking_process")
    exported = "".join(file.read_text(errors="replace") for file in (tmp_path / "exports").rglob("*") if file.is_file())
    for text in ("\n".join(lines.seen), output, caplog.text, everything_airflow_keeps(), exported):
        assert HUSH not in text

    assert main(["mlflow-sync", "mirrored", "--folder", str(folder.path / "studies")]) == 0
    assert "MLflow has the 6 trials of study mirrored; 0 were written now" in capfd.readouterr().out
    assert children(mlflow_server) == values


def children(server: MlflowServer) -> dict[int, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("from Airflow")
    runs = client.search_runs([experiment.experiment_id], "tags.`optuna_spark.kind` = 'trial'")
    found = {int(run.data.tags["optuna.trial_number"]): run.data.metrics["value"] for run in runs}
    assert len(found) == len(runs)
    return found
