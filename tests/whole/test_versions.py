"""What an earlier version left with its users, this one goes on with: database, study file, exports."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
from pathlib import Path

import optuna
import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from optuna_spark.storage.trial_marks import run_id_of
from tests.support.airflow import DagFolder, migrated_home
from tests.support.connections import SPARK, TUNING, set_connection
from tests.support.servers import spark_environment
from tests.versions.make_kit import KITS
from tuning_pipeline.commands.studies import list_studies, table
from tuning_pipeline.study_file.study_file import read_study

pytestmark = pytest.mark.slow

VERSIONS = sorted(path.name for path in KITS.iterdir() if (path / "study.sql").exists())


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user of that version: dags/, exports/, study.db."""
    kit = KITS / request.param
    shutil.copytree(kit / "exports", tmp_path / "exports", symlinks=True)
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.executescript((kit / "study.sql").read_text())
    migrated_home()
    folder = DagFolder.create(tmp_path / "dags", kept=(kit / "kept.yaml").read_text())
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    monkeypatch.setenv("TUNING_SPARK_ENV", str(spark_environment()))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=str(tmp_path / "study.db"))
    return tmp_path


def test_a_study_of_an_earlier_version_goes_on(
    version: Path, spark_cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{REPOSITORY}/init/spark/bin", prepend=os.pathsep)
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=spark_cluster.port)
    url, exports = f"sqlite:///{version}/study.db", version / "exports" / "kept"
    before = optuna.load_study(study_name="kept", storage=url).trials

    assert set(DagFolder(version / "dags").test("tune_kept", {"trials": 3}).values()) == {"success"}

    after = optuna.load_study(study_name="kept", storage=url).trials
    assert [trial.number for trial in after] == list(range(len(before) + 3))
    assert [trial.values for trial in after[: len(before)]] == [trial.values for trial in before]
    assert len(list(exports.glob("manual__*"))) == 2
    with (exports / "latest" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["user_attrs_run_id"] for row in rows] == [run_id_of(trial) for trial in after]
    assert all(row["user_attrs_worker"] for row in rows)
    assert (exports / "latest" / "report.html").stat().st_size > 100_000


def test_a_study_begins_anew_with_the_best_of_an_earlier_version(
    version: Path, spark_cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{REPOSITORY}/init/spark/bin", prepend=os.pathsep)
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=spark_cluster.port)
    best = json.loads((version / "exports" / "kept" / "latest" / "best_trials.json").read_text())
    states = DagFolder(version / "dags").test("tune_kept", {"trials": 2, "mode": "reset"})
    assert set(states.values()) == {"success"}
    study = optuna.load_study(study_name="kept", storage=f"sqlite:///{version}/study.db")
    assert [trial.params for trial in study.trials] == [record["params"] for record in best[:2]]


def test_a_study_of_an_earlier_version_is_listed(version: Path) -> None:
    file = read_study(version / "dags" / "studies" / "kept.yaml")
    (row,) = list_studies([file])
    assert (row.name, row.trials) == ("kept", 4)
    assert table([row]).splitlines()[1].startswith("kept   4       ")
