"""Two study files that would write into each other are an import error of both, and of nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.airflow import QUICK_STUDY, DagFolder
from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.study_file.study_file import StudyFileError
from tuning_pipeline.study_file.study_names import study_path

GOOD = "objective: quadratic\n"


def errors_of(folder: Path, files: dict[str, str]) -> dict[str, str]:
    """The message of each broken file; a study that stands alone is never one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (files | {"alone.yaml": GOOD}).items():
        (folder / name).write_text(text)
    found = read_studies(folder)
    good = {study.path.name for study in found.studies}
    assert "alone.yaml" in good
    errors = {error.partition(": ")[0].rpartition("/")[2]: error for error in found.errors}
    assert len(errors) == len(found.errors)
    assert good | set(errors) == set(files) | {"alone.yaml"}
    assert not good & set(errors)
    return errors


@pytest.mark.parametrize("one", [GOOD, "objective: quadratic\ntrails: 3\n", "study: other\n"])
def test_two_files_of_one_dag(one: str, tmp_path: Path) -> None:
    errors = errors_of(tmp_path / "studies", {"q.yaml": GOOD, "q.yml": one})
    assert "q.yaml: the DAG would be called tune_q, as for " in errors["q.yaml"]
    assert errors["q.yaml"].endswith("/studies/q.yml: rename one of them")
    assert "q.yml: the DAG would be called tune_q, as for " in errors["q.yml"]
    assert errors["q.yml"].endswith("/studies/q.yaml: rename one of them")


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("same", "same", "same"),
        ("Same", "sAME", "sAME"),
        ("s", "s.rescore", "s.rescore"),
        ("S", "s.Rescore", "s.Rescore"),
        ("s", "s.replaced-20261127T113000", "s.replaced-20261127T113000"),
        ("s.replaced-1", "s", "s.replaced-1"),
    ],
)
def test_two_files_of_one_study(first: str, second: str, name: str, tmp_path: Path) -> None:
    files = {"a.yaml": f"{GOOD}study: {first}\n", "b.yml": f"{GOOD}study: {second}\n"}
    errors = errors_of(tmp_path / "studies", files)
    assert set(errors) == set(files)
    assert "studies/b.yml: rename one of them" in errors["a.yaml"]
    assert "studies/a.yaml: rename one of them" in errors["b.yml"]
    assert all(name in error for error in errors.values())


@pytest.mark.parametrize(
    ("first", "second"), [("s", "s2"), ("s", "s.rescored"), ("s", "x.rescore"), ("s", "s.replaced")]
)
def test_names_that_are_near_are_two_studies(first: str, second: str, tmp_path: Path) -> None:
    files = {"a.yaml": f"{GOOD}study: {first}\n", "b.yml": f"{GOOD}study: {second}\n"}
    assert errors_of(tmp_path / "studies", files) == {}


def test_a_study_may_have_the_name_of_another_ones_file(tmp_path: Path) -> None:
    assert errors_of(tmp_path / "studies", {"a.yaml": f"{GOOD}study: b\n", "b.yaml": f"{GOOD}study: a\n"}) == {}


def test_airflow_shows_both_among_its_import_errors(tmp_path: Path) -> None:
    folder = DagFolder.create(tmp_path / "dags", one=f"{QUICK_STUDY}study: same\n", two=f"{QUICK_STUDY}study: same\n")
    bag = folder.bag()
    [error] = bag.import_errors.values()
    assert "studies/one.yaml: the study would be called same, as for dags/studies/two.yaml" in error
    assert "studies/two.yaml: the study would be called same, as for dags/studies/one.yaml" in error
    assert "tune_one" not in bag.dags


def test_a_study_is_found_by_name_whichever_way_its_file_ends(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yml", "both.yaml", "both.yml"):
        (tmp_path / name).write_text(GOOD)
    assert [study_path(tmp_path, name).name for name in ("one", "two")] == ["one.yaml", "two.yml"]
    with pytest.raises(StudyFileError, match=r"both.yaml: the DAG would be called tune_both, as for .*both.yml"):
        study_path(tmp_path, "both")
    with pytest.raises(StudyFileError, match=r"three: there is no such study file; there is both, one, two"):
        study_path(tmp_path, "three")
