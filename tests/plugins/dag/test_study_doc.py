"""The page of a study's DAG: what it says, and that no text of a study file breaks it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.studies import study_reader
from tuning_pipeline.dag.study_doc import code, plain, study_doc
from tuning_pipeline.dags import tuning_dag


def test_the_page_stays_the_same_dag_version_when_a_run_has_exported(tmp_path: Path) -> None:
    study = study_reader(tmp_path)("objective: quadratic\nstudy: s\n")
    before = tuning_dag(study).doc_md
    latest = tmp_path / "exports" / "s" / "latest"
    latest.mkdir(parents=True)
    (latest / "best_params.json").write_text(json.dumps({"values": [0.125], "trial": 7, "n_trials": 20}))
    assert tuning_dag(study).doc_md == before


def test_texts_of_the_file_stay_texts(tmp_path: Path) -> None:
    study = study_reader(tmp_path)(
        "objective: mine:f\ndata: {path: '/data/`a`|<b>.csv'}\nschedule: '@daily'\n"
        "search_space:\n  'a|b': {type: categorical, choices: ['<script>', '| x |', '[y](z)']}\n"
    )
    lines = study_doc(study).splitlines()
    assert "- **Data**: ``/data/`a`|<b>.csv``" in lines
    assert "- **Schedule**: `@daily`" in lines
    assert r"| `a\|b` | categorical | \<script\>, \| x \|, \[y\]\(z\) |" in lines


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("x", "`x`"),
        ("a`b", "``a`b``"),
        ("`a`", "`` `a` ``"),
        ("a``b`c", "```a``b`c```"),
        ("a\n# b", "`a # b`"),
        ("", "` `"),
    ],
)
def test_a_span_of_code_holds_any_text(text: str, span: str) -> None:
    assert code(text) == span


def test_a_plain_text_has_no_markup() -> None:
    assert plain("wine_1 *new*\n# x") == r"wine\_1 \*new\* \# x"
