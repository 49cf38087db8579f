"""Retuning on Databricks: the rules of a standalone cluster, with data and trials in the workspace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import optuna
import pytest

from init.local.mysql import MysqlServer
from tests.support.airflow import DagFolder, migrated_home
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.databricks import VOLUME, Workspace
from tests.support.databricks_fixtures import workspace as workspace  # a fixture
from tests.support.studies import study_reader
from tuning_pipeline.failures import TaskError
from tuning_pipeline.runs import begin as runs
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError
from tuning_pipeline.targets.databricks.fingerprint import data_fingerprint
from tuning_pipeline.targets.databricks.tasks import pool_tasks, rescore_best_trial, tune
from tuning_pipeline.targets.databricks.workspace.upload import upload_job_files

EXTERNAL = f"""target: databricks
retries: 0
databricks:
  files: {VOLUME}
  poll_s: 1
  database: external
  cluster: {{node_type: n, workers: 2}}
database: {{host_pattern: 127.0.0.1}}
"""
PLACES = [f"{VOLUME}/lake", "/Workspace/Shared/lake", "/dbfs/lake"]

Study = Callable[[str], StudyFile]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


def on(study: Study, path: str) -> StudyFile:
    return study(f"objective: xgboost\ndata: {{path: '{path}', label: y}}\nretune: {{rule: new_data}}\n{EXTERNAL}")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("below", ["", "/year=2026/month=11"])
def test_data_in_the_workspace_has_a_fingerprint_that_changes_with_it(
    workspace: Workspace, study: Study, place: str, below: str
) -> None:
    folder = workspace.path(place + below)
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("x,y\n1,2\n")
    first = data_fingerprint(on(study, place))
    assert data_fingerprint(on(study, place)) == first
    os.utime(folder / "a.csv", (1, 1))
    second = data_fingerprint(on(study, place))
    (folder / "b.csv").write_text("x,y\n1,2\n")
    third = data_fingerprint(on(study, place))
    assert len({first, second, third}) == 3
    one = data_fingerprint(on(study, f"{place}{below}/b.csv"))
    assert one != third


def test_both_names_of_a_file_on_dbfs_mean_the_same_data(workspace: Workspace, study: Study) -> None:
    workspace.path("/dbfs/t.csv").write_text("x,y\n")
    assert data_fingerprint(on(study, "/dbfs/t.csv")) == data_fingerprint(on(study, "dbfs:/t.csv"))


@pytest.mark.parametrize("place", PLACES)
def test_data_that_is_missing_is_one_card(workspace: Workspace, study: Study, place: str) -> None:
    with pytest.raises(TaskError, match=f"there is no data at {place}/none"):
        data_fingerprint(on(study, f"{place}/none"))


def test_data_of_this_machine_is_looked_at_here(study: Study, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n")
    assert data_fingerprint(on(study, str(tmp_path / "t.csv")))


@pytest.mark.parametrize("rule", ["new_data", "drift"])
def test_a_rule_needs_a_database_that_airflow_reaches(study: Study, rule: str) -> None:
    text = f"objective: xgboost\ndata: {{path: /Volumes/a/b/c/d.csv, label: y}}\nretune: {{rule: {rule}}}\n{EXTERNAL}"
    assert study(text).settings.retune.rule == rule
    with pytest.raises(StudyFileError, match=f"rule {rule} needs a database that Airflow reaches"):
        study(text.replace("database: external", "database: driver"))


def test_the_best_trials_of_the_last_export_are_sent_along(
    workspace: Workspace, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    latest = tmp_path / "exports" / "example" / "latest"
    latest.mkdir(parents=True)
    records = [{"params": {"x": x}} for x in (0.5, 0.25, 0.125)]
    (latest / "best_trials.json").write_text(json.dumps(records))
    text = f"objective: quadratic\nretune: {{warm_start: 2}}\n{EXTERNAL.replace('external', 'driver')}"
    text += "search_space: {x: {type: float, low: 0, high: 1}}\n"
    sent = upload_job_files(study(text), "manual__1")
    spec = json.loads(workspace.path(sent["spec"]).read_text())
    assert spec["enqueue"] == [{"x": 0.5}, {"x": 0.25}]


def test_both_runs_of_a_study_wait_in_its_pool_and_have_its_time(study: Study) -> None:
    text = f"objective: quadratic\nexecution_timeout_s: 77\nretune: {{rule: drift}}\n{EXTERNAL}"
    for given, pool in ((text, "default_pool"), (f"{text}pool: gpus\n", "gpus")):
        for operator in (tune(study(given)), rescore_best_trial(study(given))):
            assert (operator.pool, operator.execution_timeout) == (pool, timedelta(seconds=77))
            # The log says who holds it.
            assert pool_tasks(study(given)) == (("tune", "rescore_best_trial") if pool == "gpus" else ())


@pytest.mark.slow
def test_the_best_trial_runs_again_on_databricks_and_decides(
    workspace: Workspace, mysql_server: MysqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrated_home()
    steady = "search_space: {x: {type: float, low: 3, high: 3}}\nretune: {rule: drift}\n"
    text = f"objective: quadratic\ntrials: 2\ntasks: 1\nseed: 1\ndistribution: rdd\n{steady}{EXTERNAL}"
    folder = DagFolder.create(tmp_path / "dags", cloud=f"{text}study: {tmp_path.name}\n")
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    password = "pw"
    fields = tuning_fields(mysql_server, schema="optuna_retune", login="retune", password=password)
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server))
    set_connection(monkeypatch, TUNING, **fields)
    workspace.secrets["tuning", "database-password"] = password

    states = folder.test("tune_cloud")
    (tuned,) = workspace.runs.values()
    assert (states["rescore_best_trial"], states["tune"], tuned.result) == ("skipped", "success", "SUCCESS")
    # Only somebody's hand starts a run here; what a schedule would do is what is asked for.
    monkeypatch.setattr(runs, "asked_for", lambda run_type: False)
    states = folder.test("tune_cloud")
    _, rescored = workspace.runs.values()
    assert rescored.payload["run_name"].startswith(f"tune {tmp_path.name}.rescore (")
    assert rescored.result == "SUCCESS", rescored.output
    ended = {name: states[name] for name in ("rescore_best_trial", "decide_retune", "tune", "end_run")}
    assert ended == {
        "rescore_best_trial": "success", "decide_retune": "skipped", "tune": "skipped", "end_run": "success",
    }  # fmt: skip
    url = f"mysql+pymysql://retune:{password}@{mysql_server.host}:{mysql_server.port}/optuna_retune"
    assert len(optuna.load_study(study_name=tmp_path.name, storage=url).trials) == 2
