"""A study exported to a folder: what the files hold, and that the folder is whole or absent."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]  # published without types
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]  # likewise

from init.local.watch import RunWatcher
from optuna_spark.errors import TuningError
from tuning_pipeline.exports.export import BEST_PARAMS, export_study
from tuning_pipeline.exports.folders.paths import folder_name
from tuning_pipeline.exports.folders.whole_folders import publish_folder, publish_latest

RUN_ID = "manual__2026-11-22T09:17:38+00:00"
FOLDER = "manual__2026-11-22T09-17-38Z"
FILES = {
    "best_params.json",
    "best_trials.csv",
    "best_trials.json",
    "best_trials.parquet",
    "report.html",
    "trials.csv",
    "trials.parquet",
}


def objective(trial: optuna.Trial) -> float:
    depth = trial.suggest_int("depth", 1, 12)
    eta = trial.suggest_float("eta", 0.01, 1.0, log=True)
    trial.suggest_categorical("deterministic", [True, False])
    trial.suggest_categorical("grow", ["auto", 7, None])
    if depth > 6:
        trial.suggest_int("leaves", 2, 64)
    trial.set_user_attr("run_id", RUN_ID)
    trial.set_user_attr("best_iteration", trial.number * 10)
    if trial.number == 3:
        trial.set_user_attr("error", "OperationalError: mysql+pymysql://tuner:s3cret@db/optuna is gone")
        raise ValueError
    return depth * eta


@pytest.fixture
def study() -> optuna.Study:
    """Twelve trials, the fourth failed."""
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(study_name="wine", sampler=sampler)
    study.optimize(objective, n_trials=12, catch=ValueError)
    return study


@pytest.fixture
def stored_study(study: optuna.Study, tmp_path: Path) -> optuna.Study:
    """The same trials in SQLite."""
    storage = f"sqlite:///{tmp_path}/wine.db"
    stored = optuna.create_study(study_name="wine", storage=storage)
    stored.add_trials(study.trials)
    return stored


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """The system refuses to write more than `n_bytes` to one file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class SmallStore(MemoryFileSystem):  # type: ignore[misc]  # its base has no types
    """An object store that is full after some number of writes."""

    protocol = "small"
    store: dict[str, Any] = {}  # noqa: RUF012  # as in MemoryFileSystem: one store per class
    pseudo_dirs = [""]  # noqa: RUF012  # likewise
    writes_left = 10**9

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._count()
        super().pipe_file(path, value, mode=mode, **options)

    def open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        if "w" in mode:
            self._count()
        return super().open(path, mode, *args, **options)

    def _count(self) -> None:
        if type(self).writes_left == 0:
            raise OSError("the bucket's quota is used up")
        type(self).writes_left -= 1


@pytest.fixture
def small_store() -> Iterator[type[SmallStore]]:
    fsspec.register_implementation("small", SmallStore, clobber=True)
    SmallStore.store.clear()
    SmallStore.writes_left = 10**9
    yield SmallStore
    SmallStore.store.clear()


@pytest.fixture
def memory() -> Iterator[ObjectStoragePath]:
    MemoryFileSystem.store.clear()
    yield ObjectStoragePath("memory://bucket/exports")
    MemoryFileSystem.store.clear()


# What the files hold


def test_an_export_holds_these_files_and_nothing_else(study: optuna.Study, tmp_path: Path) -> None:
    export_study(study, tmp_path / "exports", RUN_ID)
    assert names(tmp_path / "exports") == {"wine"}
    assert names(tmp_path / "exports" / "wine") == {FOLDER, "latest"}
    assert names(tmp_path / "exports" / "wine" / FOLDER) == FILES


def test_the_result_is_plain_data_with_the_folder(study: optuna.Study, tmp_path: Path) -> None:
    result = export_study(study, tmp_path, RUN_ID)
    folder = tmp_path / "wine" / FOLDER
    assert result == {**json.loads((folder / BEST_PARAMS).read_text()), "folder": str(folder)}
    assert result["params"] == study.best_params
    assert (result["value"], result["trial"]) == (study.best_value, study.best_trial.number)
    assert (result["n_trials"], result["run_id"]) == (12, RUN_ID)


def test_parquet_columns_are_typed_and_nullable(stored_study: optuna.Study, tmp_path: Path) -> None:
    table = pq.read_table(Path(export_study(stored_study, tmp_path, RUN_ID)["folder"]) / "trials.parquet")
    types = dict(zip(table.schema.names, table.schema.types, strict=True))
    assert types["number"] == types["params_depth"] == types["params_leaves"] == pa.int64()
    assert types["user_attrs_best_iteration"] == pa.int64()
    assert types["value"] == types["params_eta"] == types["duration_s"] == pa.float64()
    assert types["params_deterministic"] == pa.bool_()
    assert types["params_grow"] == types["state"] == pa.string()
    assert types["datetime_start"] == pa.timestamp("us")
    assert 0 < table["params_leaves"].null_count < table.num_rows == 12
    assert table["value"].null_count == 1


def test_parquet_holds_the_trials_as_they_are_in_the_database(stored_study: optuna.Study, tmp_path: Path) -> None:
    rows = pq.read_table(Path(export_study(stored_study, tmp_path, RUN_ID)["folder"]) / "trials.parquet").to_pylist()
    for row, trial in zip(rows, stored_study.trials, strict=True):
        assert row["number"] == trial.number
        assert row["state"] == trial.state.name
        assert row["value"] == trial.value
        assert row["params_eta"] == trial.params["eta"]
        assert row["params_leaves"] == trial.params.get("leaves")
        assert row["datetime_complete"] == trial.datetime_complete


def test_csv_writes_ints_without_a_point_and_floats_exactly(study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(study, tmp_path, RUN_ID)["folder"])
    with (folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, trial in zip(rows, study.trials, strict=True):
        assert row["params_depth"] == str(trial.params["depth"])
        assert row["params_leaves"] == str(trial.params.get("leaves", ""))
        assert row["params_deterministic"] == str(trial.params["deterministic"]).lower()
        assert float(row["params_eta"]) == trial.params["eta"]
        assert row["value"] == ("" if trial.value is None else repr(trial.value))
        assert datetime.fromisoformat(row["datetime_start"]) == trial.datetime_start


def test_json_holds_the_best_trials_with_exact_parameters(stored_study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(stored_study, tmp_path, RUN_ID, top_k=5)["folder"])
    records = json.loads((folder / "best_trials.json").read_text())
    by_value = sorted((t for t in stored_study.trials if t.value is not None), key=lambda t: t.value or 0.0)
    assert [r["params"] for r in records] == [t.params for t in by_value[:5]]
    assert [r["value"] for r in records] == [t.value for t in by_value[:5]]


def test_the_best_tables_hold_the_top_k_with_the_columns_of_the_full_ones(study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(study, tmp_path, RUN_ID, top_k=2)["folder"])
    best = pq.read_table(folder / "best_trials.parquet")
    assert best.num_rows == 2
    assert best.schema == pq.read_table(folder / "trials.parquet").schema


def test_odd_values_survive_every_table(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="odd")
    attrs = {"empty": "", "quote": 'a,"b"\nc', "lone": "\udcff", "big": 2**70, "nan": float("nan"), "none": None}
    study.add_trial(optuna.trial.create_trial(value=float("inf"), user_attrs=attrs))
    study.add_trial(optuna.trial.create_trial(value=1e-300))
    folder = Path(export_study(study, tmp_path, "r")["folder"])
    first, second = pq.read_table(folder / "trials.parquet").to_pylist()
    assert (first["value"], second["value"]) == (float("inf"), 1e-300)
    assert (first["user_attrs_empty"], second["user_attrs_empty"]) == ("", None)
    assert (first["user_attrs_quote"], first["user_attrs_lone"]) == ('a,"b"\nc', "?")
    assert first["user_attrs_big"] == str(2**70)
    assert math.isnan(first["user_attrs_nan"])
    with (folder / "trials.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["user_attrs_quote"] == 'a,"b"\nc'
    assert json.loads((folder / "best_trials.json").read_text())[1]["value"] == "inf"


def test_a_pareto_front_is_exported_whole(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="two", directions=["minimize", "maximize"])
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), n_trials=30)
    folder = Path(export_study(study, tmp_path, RUN_ID, top_k=1)["folder"])
    table = pq.read_table(folder / "best_trials.parquet")
    assert set(table["number"].to_pylist()) == {t.number for t in study.best_trials}
    assert table["value_0"].to_pylist() == sorted(table["value_0"].to_pylist())


def test_no_file_holds_a_password_that_a_trial_reported(study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(study, tmp_path, RUN_ID)["folder"])
    assert "***@db" in (folder / "trials.csv").read_text()
    assert not [path.name for path in folder.iterdir() if b"s3cret" in path.read_bytes()]


def test_the_database_is_not_named_in_any_file(stored_study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(stored_study, tmp_path / "exports", RUN_ID)["folder"])
    assert not [path.name for path in folder.iterdir() if b"wine.db" in path.read_bytes()]


def test_the_files_follow_the_umask(study: optuna.Study, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        folder = Path(export_study(study, tmp_path, RUN_ID)["folder"])
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


# The folder


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        (RUN_ID, FOLDER),
        ("scheduled__2026-11-22T00:00:00.123456+00:00", "scheduled__2026-11-22T00-00-00.123456Z"),
        ("manual__2026-11-22T09:17:38+00:00_kX3", "manual__2026-11-22T09-17-38Z_kX3"),
        ("wine_quality-2.1", "wine_quality-2.1"),
    ],
)
def test_airflows_run_ids_become_readable_folder_names(name: str, folder: str) -> None:
    assert folder_name(name) == folder


@pytest.mark.parametrize("name", ["../../etc", "..", ".", "", "a/b", "latest", "LATEST", ".hidden", "ü b", "x" * 250])
def test_any_other_name_becomes_a_safe_one(name: str) -> None:
    folder = folder_name(name)
    assert folder not in ("", ".", "..", "latest", "LATEST", name)
    assert not folder.startswith(".")
    assert "/" not in folder
    assert len(folder.encode()) <= 220


def test_different_run_ids_get_different_folders() -> None:
    ids = ["a:b", "a+b", "a b", "a-b", "a/b", "x" * 240, "x" * 241]
    assert len({folder_name(i) for i in ids}) == len(ids)


def test_a_second_export_of_a_run_replaces_the_first(study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(study, tmp_path, RUN_ID)["folder"])
    (folder / "old.txt").write_text("from before")
    study.optimize(objective, n_trials=1)
    assert export_study(study, tmp_path, RUN_ID)["n_trials"] == 13
    assert names(folder) == FILES
    assert names(folder.parent) == {FOLDER, "latest"}


def test_latest_leads_to_the_newest_run_and_older_runs_stay(study: optuna.Study, tmp_path: Path) -> None:
    for run_id in ("first", "second"):
        export_study(study, tmp_path, run_id)
    assert names(tmp_path / "wine") == {"first", "second", "latest"}
    assert (tmp_path / "wine" / "latest").readlink() == Path("second")
    assert json.loads((tmp_path / "wine" / "latest" / BEST_PARAMS).read_text())["run_id"] == "second"


def test_a_latest_folder_from_a_store_without_symlinks_gives_way_to_one(study: optuna.Study, tmp_path: Path) -> None:
    latest = tmp_path / "wine" / "latest"
    latest.mkdir(parents=True)
    (latest / "LATEST").write_text("old\n")
    export_study(study, tmp_path, "new")
    assert latest.readlink() == Path("new")
    assert names(tmp_path / "wine") == {"new", "latest"}


def test_a_relative_base_is_a_folder_here(study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export_study(study, "exports", "r")["folder"] == str(tmp_path / "exports" / "wine" / "r")


@pytest.mark.parametrize("base", ["file://{}/a b#1", "{}/a b#1"])
def test_a_base_may_be_a_url_or_a_path_with_spaces(study: optuna.Study, tmp_path: Path, base: str) -> None:
    folder = export_study(study, base.format(tmp_path), "r")["folder"]
    assert folder == f"{tmp_path}/a b#1/wine/r"
    assert names(Path(folder)) == FILES


# Failures


def test_a_study_without_complete_trials_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="no complete trial"):
        export_study(optuna.create_study(), tmp_path / "exports", "r")
    assert not (tmp_path / "exports").exists()


def test_a_full_disk_leaves_nothing(study: optuna.Study, tmp_path: Path) -> None:
    with largest_file(100_000), pytest.raises(TuningError, match=r"cannot write the exports to .*File too large"):
        export_study(study, tmp_path / "exports", "r")
    assert names(tmp_path / "exports" / "wine") == set()


def test_a_full_disk_leaves_the_export_that_was_there(study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(study, tmp_path, "r")["folder"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    study.optimize(objective, n_trials=1)
    with largest_file(100_000), pytest.raises(TuningError):
        export_study(study, tmp_path, "r")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names(folder.parent) == {"r", "latest"}


def test_a_base_that_is_a_file_is_a_clear_error(study: optuna.Study, tmp_path: Path) -> None:
    (tmp_path / "exports").write_text("a file")
    with pytest.raises(TuningError, match=r"cannot write the exports to .*exports/wine/r: .*; check"):
        export_study(study, tmp_path / "exports", "r")


def test_what_a_killed_export_left_is_removed(study: optuna.Study, tmp_path: Path) -> None:
    leftover = tmp_path / "wine" / ".r.0123abcd.new"
    leftover.mkdir(parents=True)
    (leftover / "trials.csv").write_text("half")
    export_study(study, tmp_path, "r")
    assert names(tmp_path / "wine") == {"r", "latest"}


def test_an_export_killed_between_its_two_renames_loses_nothing(study: optuna.Study, tmp_path: Path) -> None:
    folder = Path(export_study(study, tmp_path, "r")["folder"])
    folder.rename(folder.with_name(".r.0123abcd.old"))
    with largest_file(100_000), pytest.raises(TuningError):
        export_study(study, tmp_path, "r")
    assert names(folder) == FILES
    assert names(folder.parent) == {"r", "latest"}


# Object stores


def test_an_object_store_gets_the_same_files(study: optuna.Study, memory: ObjectStoragePath) -> None:
    result = export_study(study, memory, RUN_ID)
    assert result["folder"] == f"memory://bucket/exports/wine/{FOLDER}"
    folder = memory / "wine" / FOLDER
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / BEST_PARAMS).read_bytes())["trial"] == result["trial"]


def test_an_object_store_gets_latest_as_a_copy_with_a_marker(study: optuna.Study, memory: ObjectStoragePath) -> None:
    for run_id in ("first", "second"):
        export_study(study, memory, run_id)
    latest = memory / "wine" / "latest"
    assert {path.name for path in latest.iterdir()} == {*FILES, "LATEST"}
    assert (latest / "LATEST").read_bytes() == b"second\n"
    assert json.loads((latest / BEST_PARAMS).read_bytes())["run_id"] == "second"


def test_a_url_is_enough_for_an_object_store(study: optuna.Study, memory: ObjectStoragePath) -> None:
    export_study(study, str(memory), "r")
    assert {path.name for path in (memory / "wine" / "r").iterdir()} == FILES


def test_a_second_export_to_an_object_store_replaces_the_first(study: optuna.Study, memory: ObjectStoragePath) -> None:
    export_study(study, memory, "r")
    (memory / "wine" / "r" / "old.txt").write_bytes(b"from before")
    export_study(study, memory, "r")
    assert {path.name for path in (memory / "wine" / "r").iterdir()} == FILES


@pytest.mark.filterwarnings("ignore:UPath 'small'")
@pytest.mark.parametrize("writes", range(5))
def test_a_full_object_store_keeps_no_half_written_folder(small_store: type[SmallStore], writes: int) -> None:
    folder = ObjectStoragePath("small://bucket/exports/wine/r")
    small_store.writes_left = writes
    with pytest.raises(OSError, match="quota"):
        publish_folder(folder, dict.fromkeys(FILES, b"x"), BEST_PARAMS)
    assert [path for path in small_store.store if "wine/r" in path] == []


@pytest.mark.filterwarnings("ignore:UPath 'small'")
def test_the_marker_is_written_last_and_removed_first(small_store: type[SmallStore]) -> None:
    folder = ObjectStoragePath("small://bucket/exports/wine/r")
    publish_folder(folder, {"a": b"1", BEST_PARAMS: b"1"}, BEST_PARAMS)
    small_store.writes_left = 1
    with pytest.raises(OSError, match="quota"):
        publish_folder(folder, {BEST_PARAMS: b"2", "a": b"2"}, BEST_PARAMS)
    assert not (folder / BEST_PARAMS).exists()


def test_a_disk_without_symlinks_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # what Linux says on FAT

    monkeypatch.setattr(os, "symlink", refuse)
    folder = ObjectStoragePath(f"file://{tmp_path}/wine/r")
    files = {BEST_PARAMS: b"1", "trials.csv": b"2"}
    publish_folder(folder, files, BEST_PARAMS)
    publish_latest(folder, files)
    assert names(tmp_path / "wine") == {"r", "latest"}
    assert names(tmp_path / "wine" / "latest") == {*files, "LATEST"}
    assert (tmp_path / "wine" / "latest" / "LATEST").read_text() == "r\n"


RUN_BY_SPREADSHEETS = [
    "=cmd|'/c calc'!A1",
    "+1+cmd",
    "-2+3+cmd",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    '=HYPERLINK("http://x")',
]


@pytest.mark.attack("the trigger", "a text that a spreadsheet runs, as a parameter's value", times=7)
def test_no_cell_of_a_csv_file_is_run_by_a_spreadsheet(tmp_path: Path) -> None:
    study = optuna.create_study()
    choices = optuna.distributions.CategoricalDistribution([*RUN_BY_SPREADSHEETS, "-1.5"])
    space: dict[str, optuna.distributions.BaseDistribution] = {"text": choices}
    for text in [*RUN_BY_SPREADSHEETS, "-1.5"]:
        study.add_trial(optuna.create_trial(params={"text": text}, distributions=space, value=-2.0))
    export_study(study, tmp_path, "run")
    folder = tmp_path / folder_name(study.study_name) / "run"
    for file in ("trials.csv", "best_trials.csv"):
        with (folder / file).open(newline="") as lines:
            cells = [cell for row in csv.reader(lines) for cell in row]
        assert {f"'{text}" for text in RUN_BY_SPREADSHEETS} <= set(cells)
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t", "\r"))]
        assert {cell for cell in cells if cell.startswith("-")} == {"-1.5", "-2.0"}
    assert pq.read_table(folder / "trials.parquet")["params_text"].to_pylist() == [*RUN_BY_SPREADSHEETS, "-1.5"]


def test_make_run_finds_the_exports_of_the_run_whatever_the_study_is_called(
    study: optuna.Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "tuning_pipeline.exports.export"):
        exported = export_study(study, tmp_path / "my exports", RUN_ID)
    watcher = RunWatcher(lambda _: None)
    for message in caplog.messages:
        watcher.feed(f"2026-11-22T09:31:18.641929Z [info     ] {message} [tuning_pipeline.exports.export] loc=e.py:9\n")
    assert watcher.exported == exported["folder"]
