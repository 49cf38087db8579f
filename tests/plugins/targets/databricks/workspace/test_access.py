"""What goes up to a workspace and comes back: once for each content, with clear errors."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from optuna_spark.spec.tuning import TuningSpec
from tests.support.connections import set_connection
from tests.support.databricks import VOLUME, Workspace
from tests.support.databricks_fixtures import DATABRICKS, connect
from tests.support.databricks_fixtures import workspace as workspace  # a fixture
from tests.support.studies import study_reader
from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.failures import TaskError
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.databricks.workspace.access import RemoteFolders, open_workspace, readable_errors
from tuning_pipeline.targets.databricks.workspace.upload import upload_job_files
from tuning_pipeline.targets.databricks.workspace.volume_study import fetch_results, study_file
from tuning_pipeline.targets.databricks.write_job import write_job

BASE = f"objective: quadratic\ntarget: databricks\ndatabricks:\n  files: {VOLUME}\n  cluster: {{node_type: n}}\n"

Study = Callable[[str], StudyFile]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


def folders() -> RemoteFolders:
    return RemoteFolders(open_workspace(require_connection(DATABRICKS, "a test")))


def sent(workspace: Workspace) -> list[str]:
    return [
        line
        for line in workspace.requests
        if line.startswith(("PUT /api/2.0/fs/files", "POST /api/2.0/workspace/import"))
    ]


@pytest.mark.parametrize("base", [VOLUME, "/Workspace/Shared/tuning"])
def test_a_file_is_sent_once_for_its_content(workspace: Workspace, base: str) -> None:
    workspace.faults.every = 0
    remote = folders()
    path = remote.store(base, "a.py", b"print(1)\n")
    assert remote.store(base, "a.py", b"print(1)\n") == path
    assert len(sent(workspace)) == 1
    assert remote.store(base, "a.py", b"print(2)\n") != path
    assert workspace.path(path).read_bytes() == b"print(1)\n"
    assert remote.read(path) == b"print(1)\n"
    assert remote.read(f"{base}/none") is None


@pytest.mark.parametrize("base", [VOLUME, "/Workspace/Shared/tuning"])
def test_a_file_is_deleted_once(workspace: Workspace, base: str) -> None:
    remote = folders()
    path = remote.store(base, "a.py", b"print(1)\n")
    assert [remote.delete(path), remote.delete(path)] == [True, False]
    assert not remote.exists(path)


def test_throttled_and_failing_calls_are_repeated(workspace: Workspace) -> None:
    workspace.faults.every = 2
    assert folders().store(VOLUME, "a", b"x" * 100_000).startswith(VOLUME)


def test_an_upload_holds_all_a_run_needs(workspace: Workspace, study: Study, tmp_path: Path) -> None:
    (tmp_path / "dags" / "studies").mkdir(parents=True)
    (tmp_path / "dags" / "studies" / "own.py").write_text("def f(trial):\n    return 1.0\n")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    text = BASE.replace("quadratic", "own:f") + f"data: {{path: {tmp_path}/table.csv}}\n"
    workspace.faults.every = 0
    given = upload_job_files(study(text), "run 1")
    names = [Path(path).name for path in (given["package"], given["entry"], *given["init_scripts"], *given["py_files"])]
    assert names == ["optuna_spark.zip", "tune_databricks.py", "init_optuna.sh", "own.py"]
    spec = TuningSpec.from_json(workspace.path(given["spec"]).read_text())
    assert spec.run_id == "run 1"
    assert spec.data is not None
    assert spec.data.location.startswith(f"{VOLUME}/data/")
    assert workspace.path(spec.data.location).read_text() == "a,b\n1,2\n"
    before = len(sent(workspace))
    assert upload_job_files(study(text), "run 1") == given
    assert len(sent(workspace)) == before


def test_an_objective_that_is_a_package_is_sent_as_a_zip(workspace: Workspace, study: Study, tmp_path: Path) -> None:
    package = tmp_path / "dags" / "studies" / "own"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def f(trial):\n    return 1.0\n")
    given = study(BASE.replace("quadratic", "own:f"))
    (sent_zip,) = upload_job_files(given, "run 1")["py_files"]
    assert Path(sent_zip).name == "own.zip"
    with zipfile.ZipFile(workspace.path(sent_zip)) as archive:
        assert archive.namelist() == ["own/__init__.py"]
    assert "own.zip" in {file.name for file in write_job(given, tmp_path / "job")}
    assert "/own.zip" in (tmp_path / "job" / "job.json").read_text()


def test_scripts_may_lie_in_the_workspace(workspace: Workspace, study: Study) -> None:
    given = upload_job_files(study(BASE + "  scripts: /Workspace/Shared/tuning\n"), "r")
    assert given["entry"].startswith("/Workspace/Shared/tuning/code/")
    assert given["package"].startswith(f"{VOLUME}/code/")
    assert workspace.path(given["init_scripts"][0]).read_text().startswith("#!/usr/bin/env bash")


def test_gpu_nodes_get_the_xgboost_script_too(workspace: Workspace, study: Study) -> None:
    text = BASE.replace("objective: quadratic", "objective: xgboost\ndata: {path: 'sklearn:diabetes'}")
    given = upload_job_files(study(text), "r")
    assert [Path(path).name for path in given["init_scripts"]] == ["init_optuna.sh", "init_optuna_xgboost.sh"]


def test_the_study_is_worked_on_here_and_sent_back(
    workspace: Workspace, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    given = study(BASE)
    for expected in (0, 1):
        with study_file(given) as url:
            kept = optuna.create_study(study_name="example", storage=str(url), load_if_exists=True)
            assert len(kept.trials) == expected
            kept.optimize(lambda trial: 1.0, n_trials=1)
    fetched = fetch_results(given)
    assert Path(fetched["study"].removeprefix("file://")).stat().st_size == fetched["bytes"]


def test_a_study_nobody_left_is_an_error(workspace: Workspace, study: Study) -> None:
    with pytest.raises(TaskError, match=r"there is no study at /Volumes/main/default/tuning/studies/example/study.db"):
        fetch_results(study(BASE))


def test_a_missing_data_file_is_named(workspace: Workspace, study: Study) -> None:
    with pytest.raises(TaskError, match=r"data.path /none.csv is no file on this machine"):
        upload_job_files(study(BASE + "data: {path: /none.csv}\n"), "r")


def test_a_wrong_token_is_one_sentence(workspace: Workspace, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, workspace, token="wrong")
    with pytest.raises(TaskError, match="refuses the credentials of connection 'tuning_databricks'") as caught:
        upload_job_files(study(BASE), "r")
    assert "Access tokens" in caught.value.failure.next
    assert not caught.value.failure.retry


def test_a_volume_that_is_not_there_is_one_sentence(workspace: Workspace, study: Study) -> None:
    with pytest.raises(TaskError, match=r"Databricks at http://127.0.0.1") as caught:
        upload_job_files(study(BASE.replace("/tuning\n", "/other\n")), "r")
    assert "does not exist" in caught.value.failure.why


def test_an_unreachable_workspace_is_one_sentence(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    import tuning_pipeline.targets.databricks.workspace.access as module

    monkeypatch.setattr(module, "RETRY_S", 1)
    set_connection(
        monkeypatch, DATABRICKS, conn_type="databricks", host="127.0.0.1", schema="http", port=1, password="t"
    )
    with pytest.raises(TaskError, match=r"no Databricks workspace answers at http://127.0.0.1:1") as caught:
        upload_job_files(study(BASE), "r")
    assert caught.value.failure.retry


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"password": "t"}, "has no host"),
        ({"host": "h"}, "has no credentials for Databricks"),
        ({"host": "h", "login": "user", "password": "p"}, "has no credentials for Databricks"),
    ],
)
def test_an_incomplete_connection_is_named(
    fields: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, DATABRICKS, conn_type="databricks", **fields)
    with pytest.raises(TaskError, match=message):
        open_workspace(require_connection(DATABRICKS, "a test"))


def test_other_errors_keep_their_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, DATABRICKS, conn_type="databricks", host="h", password="t")
    with pytest.raises(ZeroDivisionError), readable_errors(require_connection(DATABRICKS, "a test")):
        raise ZeroDivisionError
