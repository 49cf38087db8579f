"""The last best value on a DAG's page: from the newest export, cheaply, and whatever its file holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import optuna
import pytest

from tuning_pipeline.exports.export import export_study
from tuning_pipeline.exports.last_best import ELSEWHERE, MAX_BYTES, NONE_YET, UNREADABLE, last_best

BEST = {"values": [0.5], "trial": 3, "n_trials": 9, "datetime": "2026-11-27T22:19:12.481734"}


def write(base: Path, content: str) -> None:
    file = base / "s" / "latest" / "best_params.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def test_it_is_what_a_real_export_says(tmp_path: Path) -> None:
    assert last_best(str(tmp_path), "my study") == NONE_YET
    study = optuna.create_study(study_name="my study", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    export_study(study, tmp_path, "run")
    when = study.best_trial.datetime_complete
    assert when is not None
    expected = f"**{study.best_value:.6g}**, trial {study.best_trial.number} of 3, {when:%Y-%m-%d %H:%M}"
    assert last_best(str(tmp_path), "my study") == expected
    assert last_best(tmp_path.as_uri(), "my study") == expected


def test_of_several_directions_it_is_the_first_of_the_front(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(BEST | {"values": [0.25, "inf"]}))
    assert last_best(str(tmp_path), "s").startswith("**0.25, inf** (the first of the Pareto front), trial 3 of 9")


def test_an_object_store_is_not_asked() -> None:
    assert last_best("s3://nowhere_conn@no-such-bucket/exports", "s") == ELSEWHERE


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '"text"',
        "{}",
        "[" * 100_000,
        json.dumps(BEST | {"values": []}),
        json.dumps(BEST | {"values": ["**[x](javascript:x)**"]}),
        json.dumps(BEST | {"values": [10**400]}),
        json.dumps(BEST | {"trial": "<img src=x>"}),
        json.dumps(BEST | {"datetime": "| a | b |"}),
        json.dumps(BEST) + " " * MAX_BYTES,
    ],
    ids=lambda content: f"{content[:20]}, {len(content)}",
)
def test_a_file_that_holds_something_else_changes_nothing_but_this_line(tmp_path: Path, content: str) -> None:
    write(tmp_path, content)
    assert last_best(str(tmp_path), "s") == UNREADABLE


def test_a_file_that_never_ends_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "")
    file = tmp_path / "s" / "latest" / "best_params.json"
    file.unlink()
    os.mkfifo(file)  # whoever opens it waits for a writer
    assert last_best(str(tmp_path), "s") == UNREADABLE
