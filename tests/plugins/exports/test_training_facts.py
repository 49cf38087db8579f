"""best_params.json is enough to train the best trial again, whichever run found it, and holds no login."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage

from optuna_spark.objectives.registry import value_names
from optuna_spark.sampling.open_study import open_study
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.storage.run_notes import LIMIT, note_of, noted
from tests.support.connections import TUNING, set_connection
from tests.support.studies import study_reader
from tuning_pipeline.database.prepare_study import prepare_study
from tuning_pipeline.exports.export_run import export_run
from tuning_pipeline.exports.git_commit import git_commit
from tuning_pipeline.exports.training_facts import note_training, shareable_path
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.study_run import StudyRun

WINE = (
    "objective: xgboost\nstudy: wine\nseed: 7\n"
    "data: {path: table.csv, label: quality, separator: ;, missing: ['?'], columns: {drop: [id*]},"
    " categorical: [zip]}\n"
    "xgboost: {task: multiclass, fixed: {booster: dart}}\n"
)
PASSWORD = "hunter2hunter2"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sa.URL:
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=str(tmp_path / "studies.db"))
    return sa.URL.create("sqlite", database=str(tmp_path / "studies.db"))


@pytest.fixture
def storage(url: sa.URL) -> Iterator[RDBStorage]:
    found = create_storage(url)
    yield found
    close_storage(found)


def a_run(folder: Path, text: str, number: int) -> StudyRun:
    study = study_reader(folder)(text)
    made = f"2026-11-27T11:13:1{number}.000000+00:00"
    return StudyRun(study, RunIdentity(study.dag_id, f"run {number}", made), "resume", True)


def tuned(run: StudyRun, url: sa.URL, storage: RDBStorage, value: float, **attrs: Any) -> None:
    """The run as its tasks leave it: prepared, with one trial."""
    prepare_study(run.spec, url, "resume")
    note_training(run, storage, f"fingerprint of {run.identity.run_id}")
    study = open_study(run.spec, storage, value_names(run.spec))
    study.add_trial(optuna.create_trial(value=value, user_attrs={"run_id": run.key, **attrs}))


def exported(run: StudyRun, url: sa.URL) -> dict[str, Any]:
    best = export_run(run, url, "").best
    stored: dict[str, Any] = json.loads((Path(best["folder"]) / "best_params.json").read_text())
    assert {**stored, "folder": best["folder"]} == best, "the asset event carries what the file holds"
    return stored


def test_the_best_parameters_are_enough_to_train(tmp_path: Path, url: sa.URL, storage: RDBStorage) -> None:
    run = a_run(tmp_path, WINE, 1)
    tuned(run, url, storage, 0.5, best_iteration=41, fixed_params={"num_class": 3})
    best = exported(run, url)
    assert (best["rounds"], best["objective"], best["seed"]) == (42, "xgboost", 7)
    assert (best["metrics"], best["directions"]) == (["mlogloss"], ["minimize"])
    assert best["fixed"] == {
        "objective": "multi:softprob",
        "tree_method": "hist",
        "eval_metric": ["mlogloss"],
        "seed": 7,
        "booster": "dart",
        "num_class": 3,
    }
    assert best["data"] == {
        "path": str(tmp_path / "dags" / "studies" / "table.csv"),
        "format": None,
        "label": "quality",
        "separator": ";",
        "encoding": None,
        "missing": ["?"],
        "columns": {"drop": ["id*"], "keep": []},
        "categorical": ["zip"],
        "sha256": None,
        "fingerprint": "fingerprint of run 1",
    }
    assert best["versions"]["optuna"] == optuna.__version__
    assert best["versions"]["python"].startswith("3.")
    assert best["found_by"] == best["settings_of"] == run.key


def test_an_own_objective_may_leave_rounds_and_data_open(tmp_path: Path, url: sa.URL, storage: RDBStorage) -> None:
    run = a_run(tmp_path, "objective: package.own:tune\nstudy: own\n", 1)
    tuned(run, url, storage, 0.5, best_iteration="the last")
    best = exported(run, url)
    assert (best["objective"], best["rounds"], best["fixed"], best["data"]) == ("package.own:tune", None, {}, None)
    assert best["metrics"] == ["value"]


def test_a_best_trial_of_an_earlier_run_is_exported_with_what_that_run_trained_on(
    tmp_path: Path, url: sa.URL, storage: RDBStorage
) -> None:
    first, second = a_run(tmp_path, WINE, 1), a_run(tmp_path, WINE.replace("seed: 7", "seed: 8"), 2)
    tuned(first, url, storage, 0.5)
    tuned(second, url, storage, 0.9)
    best = exported(second, url)
    assert (best["run_id"], best["found_by"], best["settings_of"]) == ("run 2", first.key, first.key)
    assert (best["seed"], best["data"]["fingerprint"]) == (7, "fingerprint of run 1")


def test_settings_that_nobody_noted_are_said_to_be_the_exporting_runs(
    tmp_path: Path, url: sa.URL, storage: RDBStorage
) -> None:
    run = a_run(tmp_path, WINE, 1)
    tuned(run, url, storage, 0.9)
    study = optuna.load_study(study_name="wine", storage=storage)
    study.add_trial(optuna.create_trial(value=0.1, user_attrs={"run_id": "of an earlier version"}))
    best = exported(run, url)
    assert (best["found_by"], best["settings_of"]) == ("of an earlier version", run.key)


@pytest.mark.attack("data sources", "a login in the address of the data, which asset events show")
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"https://ann:{PASSWORD}@host/table.csv", "https://host/table.csv"),
        (f"https://host/table.csv?sig={PASSWORD}&v=1", "https://host/table.csv"),
        (f"https://host/table.csv?{PASSWORD}", "https://host/table.csv"),
        (f"https://host/table.csv#{PASSWORD}", "https://host/table.csv"),
        (f"s3://key:{PASSWORD}@bucket/part-?.parquet", "s3://bucket/part-?.parquet"),
        (f"s3a://bucket/table?token={PASSWORD}", "s3a://bucket/table"),
        (f"abfss://box:{PASSWORD}@account.dfs.core.windows.net/t", "abfss://account.dfs.core.windows.net/t"),
        (f"jdbc:postgresql://host/db?user=ann&password={PASSWORD}", "jdbc:postgresql://host/db"),
        (f"jdbc:sqlserver://host;user=ann;password={PASSWORD}", "jdbc:sqlserver://host"),
        ("abfss://box@account.dfs.core.windows.net/t", "abfss://box@account.dfs.core.windows.net/t"),
        ("/data/part-?.csv", "/data/part-?.csv"),
        ("sklearn:diabetes", "sklearn:diabetes"),
        ("catalog.schema.table", "catalog.schema.table"),
    ],
)
def test_no_login_in_the_datas_address_is_exported(path: str, shown: str) -> None:
    assert shareable_path(path) == shown


def test_a_run_with_an_address_as_its_fingerprint_exports_no_query(
    tmp_path: Path, url: sa.URL, storage: RDBStorage
) -> None:
    """The fingerprint of a URL without a digest is the URL itself."""
    run = a_run(tmp_path, WINE, 1)
    prepare_study(run.spec, url, "resume")
    note_training(run, storage, f"https://host/t.csv?x={PASSWORD}")
    study = open_study(run.spec, storage)
    study.add_trial(optuna.create_trial(value=1.0, user_attrs={"run_id": run.key}))
    assert exported(run, url)["data"]["fingerprint"] == "https://host/t.csv"


def test_the_commit_of_the_dag_folder_is_told_and_whether_it_is_changed(tmp_path: Path) -> None:
    folder = tmp_path / "dags" / "studies"
    folder.mkdir(parents=True)
    assert git_commit(folder) is None

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *who, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "elsewhere").write_text("x")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    assert git_commit(folder) is None, "nothing of the folder is in the checkout"
    (folder / "s.yaml").write_text("objective: quadratic\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "second")
    commit = git("rev-parse", "HEAD")
    assert git_commit(folder) == commit
    (tmp_path / "elsewhere").write_text("y")
    assert git_commit(folder) == commit, "only the folder's own files count"
    (folder / "s.yaml").write_text("objective: quadratic\ntrials: 3\n")
    assert git_commit(folder) == f"{commit}+changes"


def test_notes_of_many_runs_stay_within_the_column_and_the_newest_are_kept() -> None:
    notes = None
    for number in range(3_000):
        notes = noted(notes, f"run {number}", {"commit": number // 100, "text": "x" * 500})
    assert notes is not None
    assert len(json.dumps(notes)) <= LIMIT
    assert note_of(notes, "run 2999") == {"commit": 29, "text": "x" * 500}
    assert note_of(notes, "run 1900") is not None, "runs with equal notes share one"
    assert note_of(notes, "run 0") is None


def test_a_note_that_is_too_long_is_left_out() -> None:
    assert note_of(noted(None, "run", {"text": "x" * LIMIT}), "run") is None
