"""An own objective's file and function are found where the study file is read, and nothing of it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.studies import study_reader
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError

Study = Callable[[str], StudyFile]
MINE = "def objective(trial):\n    return 1.0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "dags" / "studies"
    (found / "pack" / "deep").mkdir(parents=True)
    (found / "mine.py").write_text(MINE)
    (found / "pack" / "__init__.py").write_text("from pack.code import objective\n")
    (found / "pack" / "code.py").write_text(MINE)
    (found / "pack" / "deep" / "__init__.py").write_text(MINE)
    return found


@pytest.fixture
def study(folder: Path, tmp_path: Path) -> Study:
    return study_reader(tmp_path)


@pytest.mark.parametrize(
    "objective", ["mine:objective", "pack:objective", "pack.code:objective", "pack.deep:objective", "company.one:train"]
)
def test_what_is_beside_the_file_or_named_in_full_is_accepted(study: Study, objective: str) -> None:
    assert study(f"objective: {objective}\n").settings.objective == objective


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (
            "mien:objective",
            "objective: there is no module 'mien' (did you mean 'mine'?): put mien.py, or the folder mien",
        ),
        (
            "other:objective",
            "there is no module 'other': put other.py, or the folder other with its __init__.py, beside",
        ),
        ("mine:objektive", "objective: mine.py has no function 'objektive': did you mean 'objective'?"),
        ("mine:train", "objective: mine.py has no function 'train'; it has: objective"),
        ("mine.code:objective", "there is no module 'mine.code' in mine.py beside the study file"),
        ("pack.cod:objective", "there is no module 'pack.cod' in pack beside the study file"),
        ("pack.code:train", "objective: code.py has no function 'train'"),
    ],
)
def test_a_missing_file_or_function_is_named_with_the_nearest(study: Study, objective: str, sentence: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        study(f"objective: {objective}\n")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "class objective:\n    def __new__(cls, trial): return 1.0\n",
        "objective = lambda trial: 1.0\n",
        "first, *objective = 1, 2\n",
        "objective: object = None\n",
        "from elsewhere import train as objective\n",
        "import objective\n",
        "from elsewhere import *\n",
        "try:\n    import fast\nexcept ImportError:\n    def objective(trial): return 1.0\n",
        "if True:\n    with open('x'):\n        def objective(trial): return 1.0\n",
        "match 1:\n    case 1:\n        objective = len\n",
        "globals()['objective'] = len\n",
        "def __getattr__(name): return len\n",
    ],
)
def test_every_way_to_define_a_name_counts(study: Study, folder: Path, text: str) -> None:
    (folder / "mine.py").write_text(text)
    study("objective: mine:objective\n")


def test_a_name_inside_a_function_is_none_of_the_module(study: Study, folder: Path) -> None:
    (folder / "mine.py").write_text("def outer():\n    def objective(trial): ...\n    objective = 1\n")
    with pytest.raises(StudyFileError, match="has no function 'objective'; it has: outer"):
        study("objective: mine:objective\n")


def test_a_syntax_error_is_told_with_its_line(study: Study, folder: Path) -> None:
    (folder / "mine.py").write_text("\n\ndef objective(trial)\n    return 'a secret'\n")
    with pytest.raises(StudyFileError, match=r"mine.py cannot be read by Python 3\.\S+: line 3: expected ':'$"):
        study("objective: mine:objective\n")


def test_the_users_code_is_not_run(study: Study, folder: Path) -> None:
    (folder / "mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n{MINE}")
    study("objective: mine:objective\n")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "brings",
    [
        "spark: {py_files: [code.zip]}",
        "spark: {py_files: ['s3://bucket/other.py']}",
        "spark: {archives: ['environment.tar.gz#environment']}",
        "spark: {conf: {spark.pyspark.python: ./environment/bin/python}}",
        "target: databricks\ndatabricks: {files: /Volumes/a/b/c, existing_cluster_id: c1}",
    ],
)
def test_a_module_that_further_code_may_hold_is_left_to_the_cluster(study: Study, brings: str) -> None:
    study(f"objective: other:objective\n{brings}\n")


def test_a_file_named_in_py_files_is_looked_into(study: Study, folder: Path) -> None:
    (folder.parent / "other.py").write_text(MINE)
    study("objective: other:objective\nspark: {py_files: [../other.py]}\n")
    with pytest.raises(StudyFileError, match=r"other.py has no function 'train'"):
        study("objective: other:train\nspark: {py_files: [../other.py]}\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("enqueue: [{x: 1}, {x: 99}]", "enqueue[1].x: must be from -10 to 10, got 99"),
        ("enqueue: [{xx: 1}]", "enqueue[0]: unknown parameter 'xx' (did you mean 'x'?); valid parameters: x"),
        (
            "search_space: {max_depth: {type: int, low: 2, high: 8}}\nenqueue: [{max_dept: 3}]",
            "enqueue[0]: unknown parameter 'max_dept' (did you mean 'max_depth'?)",
        ),
        (
            "search_space: {x: {type: int, low: 2, high: 8}, X: {type: int, low: 2, high: 8}}",
            "search_space: parameters 'x' and 'X' differ only in case or accents, which MySQL does not tell apart",
        ),
        ("resources: {gpus_per_task: 2}", "resources: gpus_per_task must be at most 1 for objective quadratic"),
        (
            "objective: xgboost\ndata: {path: sklearn:diabetes}\nresources: {gpus_per_task: 2}",
            "resources: gpus_per_task must be at most 1 for objective xgboost, which uses no more in a trial, got 2",
        ),
        (
            "objective: xgboost\ndata: {path: sklearn:diabetes}\nenqueue: [{max_bin: 100}]",
            "enqueue[0].max_bin: must be one of 64, 128, 256, 512, got int 100",
        ),
    ],
)
def test_what_a_run_would_ignore_or_waste_is_refused_in_the_file(study: Study, text: str, sentence: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        study(f"{text}\n")
    assert sentence in str(caught.value)


def test_an_own_objective_may_use_several_gpus(study: Study) -> None:
    study("objective: mine:objective\nresources: {gpus_per_task: 2}\n")
