"""The annotated example and the reference page say what the declarations of the keys say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from init.local.layout import REPOSITORY
from optuna_spark.spec.key import DeclaredKey
from tuning_pipeline.reference.__main__ import ERRORS, EXAMPLE, PAGE, main, texts
from tuning_pipeline.reference.errors_page import errors_page
from tuning_pipeline.reference.example import annotated
from tuning_pipeline.study_file.declared import study_keys
from tuning_pipeline.study_file.study_file import read_study


@pytest.mark.parametrize("path", [EXAMPLE, PAGE, ERRORS], ids=str)
def test_what_is_committed_is_what_would_be_written(path: Path) -> None:
    found = (REPOSITORY / path).read_text(encoding="utf-8")
    assert found == texts(REPOSITORY)[path], "run `make reference`"


def test_the_example_holds_every_key() -> None:
    document = read_study(REPOSITORY / EXAMPLE).document
    missing = [declared.path for declared in study_keys() if not holds(document, declared.path)]
    autoscale, model, tracking = "databricks.cluster.autoscale", "model", "tracking"
    below_null = [f"{autoscale}.min_workers", f"{autoscale}.max_workers"]
    below_null += [f"{model}.{name}" for name in ("refit", "name", "train", "score")]
    below_null += [f"{tracking}.{name}" for name in ("mlflow", "experiment")]
    assert missing == below_null
    commented = (REPOSITORY / EXAMPLE).read_text()
    for path in below_null:
        *parents, name = path.split(".")
        assert f"#{'  ' * len(parents)}{name}:" in commented


def holds(document: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(document, dict) or name not in document:
            return False
        document = document[name]
    return True


@pytest.mark.parametrize("declared", study_keys(), ids=lambda declared: declared.path)
def test_a_key_explains_itself(declared: DeclaredKey) -> None:
    assert declared.key.help.endswith((".", "..."))
    assert f"| `{declared.path}` |" in (REPOSITORY / PAGE).read_text()


def test_every_error_says_what_to_do() -> None:
    rows = [line.split(" | ") for line in errors_page().splitlines() if line.startswith("| ") and "What" not in line]
    assert len(rows) > 15
    assert [row for row in rows if not row[-2].endswith(".")] == []


def test_an_annotated_study_is_the_same_study(tmp_path: Path) -> None:
    small = tmp_path / "dags" / "studies" / "small.yaml"
    small.parent.mkdir(parents=True)
    small.write_text("objective: quadratic\nsampler: GPSampler\ntrials: 3\nstop: {target_value: 1e-3}\n")
    before = read_study(small)
    small.write_text(annotated("small", before.document))
    after = read_study(small)
    assert after.settings == before.settings
    assert annotated("small", after.document) == small.read_text()


def test_the_files_are_written_below_the_named_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (EXAMPLE, PAGE):
        (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / EXAMPLE).write_bytes((REPOSITORY / EXAMPLE).read_bytes())
    main(tmp_path)
    assert (tmp_path / PAGE).read_text() == (REPOSITORY / PAGE).read_text()
    assert capsys.readouterr().out == f"wrote {EXAMPLE}\nwrote {PAGE}\nwrote {ERRORS}\n"
