"""Exports of a run lie in one place, whichever machine its tasks run on; else its first task says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.airflow import QUICK_STUDY, DagFolder, migrated_home
from tuning_pipeline.exports.folders.paths import export_folder
from tuning_pipeline.exports.folders.place import check_place, executor_of_tasks
from tuning_pipeline.failures import TaskError


@pytest.mark.parametrize(
    ("configured", "executor"),
    [
        ("LocalExecutor", "LocalExecutor"),
        ("CeleryExecutor", "CeleryExecutor"),
        ("LocalExecutor,CeleryExecutor", "LocalExecutor"),
        (" CeleryExecutor , LocalExecutor", "CeleryExecutor"),
        ("a.b.KubernetesExecutor:k8s", "KubernetesExecutor"),
        ("airflow.executors.local_executor.LocalExecutor", "LocalExecutor"),
        ("CeleryExecutor;team1=LocalExecutor", "CeleryExecutor"),
    ],
)
def test_tasks_run_with_the_first_executor_of_the_configuration(configured: str, executor: str) -> None:
    assert executor_of_tasks(configured) == executor


@pytest.mark.parametrize("executor", ["CeleryExecutor", "KubernetesExecutor", "a.b.EdgeExecutor:edge"])
def test_a_path_of_one_machine_is_refused_where_tasks_run_on_several(
    executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    with pytest.raises(TaskError, match="exports would go to the folder /srv/exports of whichever machine") as caught:
        check_place("/srv/exports")
    assert "write it as file:///srv/exports" in caught.value.failure.next
    check_place("file:///srv/exports")
    check_place("s3://bucket/exports")


def test_a_path_is_right_where_tasks_run_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for executor in ("LocalExecutor", "airflow.executors.local_executor.LocalExecutor"):
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
        check_place("/srv/exports")


def test_the_folder_that_all_share_is_the_same_by_its_url(tmp_path: Path) -> None:
    assert export_folder(f"file://{tmp_path}", "s", "r").path == export_folder(tmp_path, "s", "r").path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "first"),
    [
        ("", "provision_database"),
        ("target: databricks\ndatabricks: {files: /Volumes/a/b/c, cluster: {node_type: n}}\n", "upload_job_files"),
    ],
)
def test_the_first_task_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    more: str,
    first: str,
) -> None:
    migrated_home()
    folder = DagFolder.create(tmp_path / "dags", quick=f"{QUICK_STUDY}exports: {tmp_path}/out\n{more}")
    folder.use(monkeypatch)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    states = folder.test("tune_quick")
    assert states[first] == "failed"
    assert f"exports would go to the folder {tmp_path}/out of whichever machine runs a task" in "".join(
        line.removeprefix("│").strip() + " " for line in capfd.readouterr().out.splitlines() if line.startswith("│")
    )
