"""docs/exports.md describes what an export writes: every file, every key, every column with its type."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import pytest

from tests.support.documents import DOCS, table_rows, undescribed
from tuning_pipeline.exports.export import export_study
from tuning_pipeline.exports.published import FILE, note_published

PAGE = (DOCS / "exports.md").read_text(encoding="utf-8")
RECORDS, TABLES = "best_trials.json", "trials and best_trials, as tables"


@pytest.fixture(scope="module", params=[["minimize"], ["minimize", "maximize"]], ids=["one direction", "two"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real export, with a failed trial."""

    def objective(trial: optuna.Trial) -> list[float]:
        trial.suggest_int("depth", 1, 3)
        trial.set_user_attr("worker", "w")
        if trial.number == 1:
            trial.set_user_attr("error", "ValueError")
            raise ValueError
        return [float(trial.number)] * len(request.param)

    study = optuna.create_study(study_name="s", directions=request.param)
    study.optimize(objective, n_trials=3, catch=ValueError)
    base = tmp_path_factory.mktemp("exports")
    note_published(base, "s", export_study(study, base, "run"))
    return base / "s" / "run"


def plain(name: str) -> str:
    """A column's name as the page writes it."""
    return re.sub(r"^(params|user_attrs)_.*", r"\1_<name>", re.sub(r"^value_\d+$", "value", name))


def test_it_names_every_file(folder: Path) -> None:
    assert [path.name for path in folder.iterdir() if path.name not in PAGE] == []
    assert {path.name for path in folder.parent.iterdir()} == {"run", "latest", FILE}
    assert f"`exports/<study>/{FILE}`" in PAGE


def test_it_describes_every_key_of_best_params(folder: Path) -> None:
    best = json.loads((folder / "best_params.json").read_text())
    assert not undescribed(best, "best_params.json")


def test_it_describes_every_key_of_a_best_trial(folder: Path) -> None:
    (record, *_) = json.loads((folder / "best_trials.json").read_text())
    assert not undescribed({plain(name): value for name, value in record.items()}, RECORDS)
    assert set(table_rows(PAGE, RECORDS)) == {plain(name) for name in record}


@pytest.mark.parametrize("table", ["trials", "best_trials"])
def test_it_has_every_column_in_its_order_with_its_type(folder: Path, table: str) -> None:
    with (folder / f"{table}.csv").open(newline="") as file:
        header = next(csv.reader(file))
    schema = pq.read_schema(folder / f"{table}.parquet")
    assert schema.names == header
    columns = list(dict.fromkeys(map(plain, header)))
    described = re.findall(
        r"^\| `([^`]+)` \| ([\w\[\]]+|see below) \|", PAGE.partition(f"## {TABLES}")[2], re.MULTILINE
    )
    assert not undescribed(dict.fromkeys(columns), TABLES)
    assert [name for name, _ in described] == columns
    for field in schema:
        kind = dict(described)[plain(field.name)]
        assert kind in (str(field.type), "see below"), field.name


def test_a_key_without_a_row_is_named() -> None:
    assert undescribed({"value": 1, "made_up": 2}, "best_params.json") == (
        "docs/exports.md has no row for made_up below 'best_params.json'"
    )
