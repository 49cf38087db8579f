"""The chain for target databricks in the real Airflow, against a stand-in workspace that runs the job for real."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pytest
import sqlalchemy
from pyarrow import csv, parquet

from init.local.layout import REPOSITORY
from optuna_spark.storage.optuna_storage import create_storage
from optuna_spark.storage.trial_marks import error_of
from tests.support.airflow import DagFolder, migrated_home, write_own_code
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.databricks import VOLUME, Workspace
from tests.support.databricks_fixtures import workspace as workspace  # a fixture
from tests.support.tls_server import TlsServer
from tests.support.waiting import wait_until

STEADY = "import time\n\n\ndef slow(trial):\n    time.sleep(1.5)\n    return trial.suggest_float('x', 0, 1)\n"
pytestmark = pytest.mark.slow

STUDY = f"""objective: quadratic
target: databricks
retries: 0
trials: 4
tasks: 2
seed: 1
distribution: rdd
databricks:
  files: {VOLUME}
  poll_s: 1
  cluster: {{node_type: n, workers: 2}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> DagFolder:
    migrated_home()
    folder = DagFolder.create(tmp_path / "dags", cloud=f"{STUDY}study: {tmp_path.name}\n")
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    return folder


def kept_study(workspace: Workspace, name: str) -> optuna.Study:
    file = workspace.path(f"{VOLUME}/studies/{name}/study.db")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{file}")


def kept_states(workspace: Workspace, name: str) -> set[str]:
    """The states of the trials in the copy as it is now."""
    file = workspace.path(f"{VOLUME}/studies/{name}/study.db")
    if not file.exists():
        return set()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as copy:
        return {state for (state,) in copy.execute("SELECT state FROM trials")}


def test_a_study_on_the_driver_runs_and_goes_on(folder: DagFolder, workspace: Workspace, tmp_path: Path) -> None:
    states = folder.test("tune_cloud")
    (run,) = workspace.runs.values()
    assert set(states.values()) == {"success"}, run.output
    names = {"upload_job_files", "prepare_study", "tune", "end_run", "fetch_results", "export_best_trials"}
    assert set(states) == names
    assert "MySQL answers at 127.0.0.1" in run.output
    study = kept_study(workspace, tmp_path.name)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    best = best_params(tmp_path)
    assert (best["value"], best["params"]) == (study.best_value, study.best_params)

    assert set(folder.test("tune_cloud", {"trials": 3}).values()) == {"success"}
    assert len(kept_study(workspace, tmp_path.name).trials) == 7
    assert set(folder.test("tune_cloud", {"trials": 2, "mode": "reset"}).values()) == {"success"}
    assert len(kept_study(workspace, tmp_path.name).trials) == 2


def test_what_fits_on_no_node_ends_before_anything_is_sent_or_reset(
    folder: DagFolder, workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = workspace.path(f"{VOLUME}/studies/{tmp_path.name}/study.db")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"what earlier runs found")
    text = STUDY.replace("node_type: n", "node_type: i3.xlarge").replace("retries: 0", "retries: 3")
    folder.write_study("cloud", f"{text}study: {tmp_path.name}\nresources: {{cpus_per_task: 64}}\n")
    states = folder.test("tune_cloud", {"mode": "reset"})
    assert states["upload_job_files"] == "failed", "it is not tried again"
    assert states["prepare_study"] == "upstream_failed"
    card = " ".join(line[len("│ What   ") :] for line in capfd.readouterr().out.splitlines() if line.startswith("│"))
    assert "i3.xlarge has 4 cores and no GPU, and one trial needs 64 cores (resources.cpus_per_task)" in card
    assert not workspace.runs
    sent = [path for path in workspace.root.glob("Volumes/**/*") if path.is_file()]
    assert (sent, kept.read_bytes()) == ([kept], b"what earlier runs found")


def finish_a_trial(workspace: Workspace, name: str) -> None:
    """As a cluster does: a trial of the run that was submitted, in the study's copy on the Volume."""
    wait_until(lambda: workspace.runs, "a run")
    (run,) = workspace.runs.values()
    parameters = run.payload["tasks"][0]["spark_python_task"]["parameters"]
    spec = json.loads(workspace.path(parameters[parameters.index("--spec-file") + 1]).read_text())
    trial = optuna.trial.create_trial(value=0.5, user_attrs={"run_id": spec["run_id"]})
    kept_study(workspace, name).add_trial(trial)


def test_a_task_that_waits_itself_and_runs_out_of_time_exports_what_finished(
    folder: DagFolder, workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    workspace.faults.start_s = 8  # its cluster is starting all the time
    folder.write_study("cloud", f"{STUDY}study: {tmp_path.name}\nexecution_timeout_s: 5\n")
    with ThreadPoolExecutor(1) as cluster:
        finished = cluster.submit(finish_a_trial, workspace, tmp_path.name)
        states = folder.test("tune_cloud")
        finished.result()
    (run,) = workspace.runs.values()
    assert (states["tune"], states["export_best_trials"]) == ("failed", "upstream_failed")
    assert run.result in ("TIMEDOUT", "CANCELED")  # both are told to end it at the same time
    (file,) = (tmp_path / "exports" / tmp_path.name).glob("*/best_params.json")
    best = json.loads(file.read_text())
    assert (best["partial"], best["value"]) == (True, 0.5)
    assert "longer than execution_timeout_s (5 s)" in " ".join(capfd.readouterr().out.split())


EXTERNAL = STUDY.replace("  poll_s: 1\n", "  poll_s: 1\n  database: external\n  deferrable: true\n")
PASSWORD = "hush'\"%d{}\\ hush"


def sealed_on_cluster(server: TlsServer) -> str:
    """The study, with the authority's certificate at another path on the cluster, and the cluster's host."""
    copy = server.authority.ca.with_name("on-cluster.pem")
    copy.write_bytes(server.authority.ca.read_bytes())
    study = EXTERNAL.replace("  poll_s: 1\n", f"  poll_s: 1\n  ssl_ca: {copy}\n")
    return f"{study}database: {{host_pattern: 127.0.0.1}}\n"


def test_a_study_in_an_external_database_runs_deferred_and_keeps_its_password(
    folder: DagFolder, workspace: Workspace, tls_server: TlsServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server, keys = tls_server.server, tls_server.keys("VERIFY_IDENTITY")
    fields = tuning_fields(server, schema="optuna_cloud", login="cloud", password=PASSWORD)
    set_connection(monkeypatch, ADMIN, **admin_fields(server) | {"extra": keys})
    set_connection(monkeypatch, TUNING, **fields | {"extra": keys})
    workspace.secrets["tuning", "database-password"] = PASSWORD
    workspace.faults.lose_answer = True
    folder.write_study("cloud", f"{sealed_on_cluster(tls_server)}study: {tmp_path.name}\n")

    states = folder.test("tune_cloud")
    (run,) = workspace.runs.values()
    assert set(states.values()) == {"success"}, run.output
    names = {"upload_job_files", "provision_database", "prepare_study", "tune", "end_run", "export_best_trials"}
    assert set(states) == names
    assert "MySQL answers" not in run.output
    url = sqlalchemy.URL.create("mysql+pymysql", "cloud", PASSWORD, server.host, server.port, "optuna_cloud", keys)
    study = optuna.load_study(study_name=tmp_path.name, storage=create_storage(url))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    assert best_params(tmp_path)["params"] == study.best_params

    assert "hush" not in "".join(capfd.readouterr())
    assert "hush" not in run.output
    assert "hush" not in json.dumps(run.payload)
    assert "hush" not in everything_airflow_keeps()
    sent = [path.read_bytes() for path in workspace.root.glob("Volumes/**/*") if path.is_file()]
    assert sent
    assert not any(b"hush" in content for content in sent)


def test_a_study_on_the_driver_is_told_to_finish_and_exports_what_it_has(
    folder: DagFolder, workspace: Workspace, tmp_path: Path
) -> None:
    objective = folder.path / "studies" / "steady.py"
    objective.write_text(STEADY.replace("1.5", "0.3 if trial.number else 600"))  # the first trial hangs
    text = STUDY.replace("objective: quadratic", "objective: steady:slow").replace("trials: 4", "trials: 2000")
    text = text.replace("  poll_s: 1\n", "  poll_s: 1\n  dump_every_s: 1\n")
    folder.write_study("cloud", f"{text}study: {tmp_path.name}\ngrace_s: 2\n")
    command = [sys.executable, "-m", "tuning_pipeline.commands", "finish", "cloud", "--folder"]
    command.append(str(folder.path / "studies"))
    path = os.pathsep.join(str(REPOSITORY / part) for part in ("plugins", "jobs"))

    def ask() -> str:
        wait_until(lambda: "COMPLETE" in kept_states(workspace, tmp_path.name), "a trial to complete", 300)
        return subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        states = folder.test("tune_cloud")
    (run,) = workspace.runs.values()
    assert set(states.values()) == {"success"}, run.output
    assert f"of study {tmp_path.name} was told to finish" in asked.result()
    best = best_params(tmp_path)
    assert re.fullmatch(r"finished early by .*command line\)?", best["ended_early"])
    assert best["partial"] is False
    trials = kept_study(workspace, tmp_path.name).trials
    assert {trial.state.name for trial in trials[1:]} == {"COMPLETE"}
    assert "did not end within grace_s (2 s)" in str(error_of(trials[0]))
    assert not list(workspace.root.rglob("finish.json")), "it ends no later start of the run"
    # prepare_study forgets what was asked of an earlier start of the run.
    assert any(line.startswith("DELETE") and line.endswith("/finish.json") for line in workspace.requests)


def test_a_lost_cluster_costs_no_trial_that_was_saved(folder: DagFolder, workspace: Workspace, tmp_path: Path) -> None:
    (folder.path / "studies" / "steady.py").write_text(STEADY)
    text = STUDY.replace("objective: quadratic", "objective: steady:slow").replace("retries: 0", "retries: 1")
    text = text.replace("  poll_s: 1\n", "  poll_s: 1\n  dump_every_s: 1\n").replace("trials: 4", "trials: 12")
    folder.write_study("cloud", f"{text}study: {tmp_path.name}\nretry_delay_s: 0\n")
    # A progress line comes every few seconds: no single count is sure to be shown.
    workspace.faults.lose_cluster_after = r"\[tuning\] ([2-9]|10)/12 trials"
    states = folder.test("tune_cloud")
    runs = list(workspace.runs.values())
    assert set(states.values()) == {"success"}, runs[-1].output
    assert [run.code for run in runs] == ["DRIVER_ERROR", "SUCCESS"]
    assert "Restored the study" in runs[1].output
    finished = [trial for trial in kept_study(workspace, tmp_path.name).trials if trial.state.name == "COMPLETE"]
    assert len(finished) == 12


def test_a_run_cancelled_in_the_workspace_is_one_card_and_the_next_goes_on(
    folder: DagFolder, workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    objective = folder.path / "studies" / "steady.py"
    # From some trial on they run until they are cancelled, so that a copy shows finished and running ones.
    objective.write_text(STEADY.replace("1.5", "0.2 if trial.number < 4 else 600"))
    text = STUDY.replace("objective: quadratic", "objective: steady:slow").replace("retries: 0", "retries: 1")
    text = text.replace("  poll_s: 1\n", "  poll_s: 1\n  dump_every_s: 1\n").replace("trials: 4", "trials: 12")
    folder.write_study("cloud", f"{text}study: {tmp_path.name}\nretry_delay_s: 0\n")
    workspace.faults.cancel_when = lambda: {"COMPLETE", "RUNNING"} <= kept_states(workspace, tmp_path.name)
    states = folder.test("tune_cloud")
    (run,) = workspace.runs.values()
    assert (states["tune"], states["end_run"], run.result) == ("failed", "success", "CANCELED"), run.output
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("│")]
    assert lines[0] == "│ What   the run was cancelled in the Databricks workspace"
    assert lines[-1] == f"│ Where  {run.url}"
    assert not run.processes
    kept = kept_study(workspace, tmp_path.name).trials
    before = {state: [trial.number for trial in kept if trial.state.name == state] for state in ("COMPLETE", "RUNNING")}
    assert before["COMPLETE"]

    objective.write_text(STEADY)
    assert folder.test("tune_cloud", {"trials": 3})["tune"] == "success"
    after = kept_study(workspace, tmp_path.name).trials
    finished = [trial for trial in after if trial.state.name == "COMPLETE"]
    assert len(finished) == len(before["COMPLETE"]) + 3
    assert {trial.state.name for trial in after} == {"COMPLETE", "FAIL"}
    assert {after[number].state.name for number in before["RUNNING"]} == {"FAIL"}


MEASURES = """import os
from optuna_spark.data.load import load_dataset


def loss(trial, context):
    assert os.environ["LIBCUDF_CUFILE_POLICY"] == "OFF"
    data = load_dataset(context.spec.data, "regression", context.device, context.table)
    trial.set_user_attr("rows", data.n_rows)
    trial.set_user_attr("path", context.spec.data.path)
    return trial.suggest_float("x", 0, 1)
"""


@pytest.mark.parametrize(
    ("path", "distribution"), [("/dbfs/lake/table.csv", "rdd"), (f"{VOLUME}/lake/table.parquet", "dataframe")]
)
def test_a_table_in_the_workspace_is_read_there(
    folder: DagFolder, workspace: Workspace, tmp_path: Path, path: str, distribution: str
) -> None:
    table = pa.table({"a": [float(row) for row in range(57)], "price": [float(row % 5) for row in range(57)]})
    file = workspace.path(path)
    file.parent.mkdir(parents=True)
    (csv.write_csv if path.endswith("csv") else parquet.write_table)(table, file)
    (folder.path / "studies" / "measures.py").write_text(MEASURES)
    text = STUDY.replace("objective: quadratic", f"objective: measures:loss\ndata: {{path: {path}, label: price}}")
    folder.write_study("cloud", f"{text.replace('rdd', distribution)}study: {tmp_path.name}\n")
    states = folder.test("tune_cloud")
    (run,) = workspace.runs.values()
    assert set(states.values()) == {"success"}, run.output
    trials = kept_study(workspace, tmp_path.name).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert {(trial.user_attrs["path"], trial.user_attrs["rows"]) for trial in trials} == {(str(file), 57)}
    cluster = run.payload["tasks"][0]["new_cluster"]
    assert cluster["spark_env_vars"]["LIBCUDF_CUFILE_POLICY"] == "OFF"


def test_code_beside_the_study_file_travels_to_the_cluster_with_its_data(
    folder: DagFolder, workspace: Workspace, tmp_path: Path
) -> None:
    write_own_code(folder.path / "studies")
    text = STUDY.replace("objective: quadratic", "objective: churn:objective")
    folder.write_study("cloud", f"{text}study: {tmp_path.name}\n")
    states = folder.test("tune_cloud")
    (run,) = workspace.runs.values()
    assert set(states.values()) == {"success"}, run.output
    trials = kept_study(workspace, tmp_path.name).trials
    assert [(trial.state.name, trial.user_attrs["weights"]) for trial in trials] == [("COMPLETE", [3, 4])] * 4


def test_a_job_that_fails_names_its_cause_and_its_link(
    folder: DagFolder, workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = f"objective: xgboost\ndata: {{path: {VOLUME}/missing.csv}}"
    folder.write_study("cloud", f"{STUDY.replace('objective: quadratic', data)}study: {tmp_path.name}\n")
    assert folder.test("tune_cloud")["tune"] == "failed"
    (run,) = workspace.runs.values()
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("│")]
    assert "missing.csv" in lines[0]
    assert lines[-1] == f"│ Where  {run.url}"


def best_params(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "exports" / tmp_path.name / "latest" / "best_params.json"
    read: dict[str, Any] = json.loads(file.read_text())
    return read


def everything_airflow_keeps() -> str:
    """Rendered templates, XComs and serialised DAGs, as texts."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        kept = [
            *session.scalars(sqlalchemy.select(RenderedTaskInstanceFields.rendered_fields)),
            *session.scalars(sqlalchemy.select(XComModel.value)),
            *(dag.data for dag in session.scalars(sqlalchemy.select(SerializedDagModel))),
        ]
    assert kept
    return repr(kept)
