"""The chain for target databricks in the real Airflow, against a stand-in workspace that runs the job for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.support.airflow import DagFolder, migrated_home
from tests.support.databricks import VOLUME, Workspace
from tests.support.databricks_fixtures import workspace as workspace  # a fixture

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


def test_a_study_on_the_driver_runs_and_goes_on(folder: DagFolder, workspace: Workspace, tmp_path: Path) -> None:
    states = folder.test("tune_cloud")
    (run,) = workspace.runs.values()
    assert set(states.values()) == {"success"}, run.output
    assert set(states) == {"upload_job_files", "prepare_study", "tune", "fetch_results", "export_best_trials"}
    assert "MySQL answers at 127.0.0.1" in run.output
    study = kept_study(workspace, tmp_path.name)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    best = best_params(tmp_path)
    assert (best["value"], best["params"]) == (study.best_value, study.best_params)

    assert set(folder.test("tune_cloud", {"trials": 3}).values()) == {"success"}
    assert len(kept_study(workspace, tmp_path.name).trials) == 7
    assert set(folder.test("tune_cloud", {"trials": 2, "mode": "reset"}).values()) == {"success"}
    assert len(kept_study(workspace, tmp_path.name).trials) == 2


def best_params(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "exports" / tmp_path.name / "latest" / "best_params.json"
    read: dict[str, Any] = json.loads(file.read_text())
    return read
