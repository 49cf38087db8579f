"""A new target is a folder and a line in the registry: everything else finds it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.operator import BaseOperator

from optuna_spark.errors import SpecError
from optuna_spark.spec.form_fields import CLUSTER, plain
from optuna_spark.spec.key import check_limits, key
from tests.support.studies import listed, study_reader
from tuning_pipeline.dag.form import form_params
from tuning_pipeline.reference.errors_page import errors_page
from tuning_pipeline.reference.page import reference_page
from tuning_pipeline.study_file.keys.study_keys import StudyKeys
from tuning_pipeline.study_file.keys.target_kind import TargetKind
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError
from tuning_pipeline.targets import registry
from tuning_pipeline.targets.failure_rule import FailureRule
from tuning_pipeline.targets.target import target_of

Study = Callable[[str], StudyFile]


@dataclass(frozen=True)
class PodSettings:
    image: str = key("", "Image of the pods.")
    pods: int = key(2, "How many pods.", minimum=1, maximum=9, field=plain(CLUSTER))

    def __post_init__(self) -> None:
        check_limits(self)


class PodsKind(TargetKind):
    implementation = f"{__name__}:Pods"
    title = "pods"
    first_task = "start_pods"
    settings = PodSettings
    form_sections = ("pods",)

    def check(self, keys: StudyKeys) -> None:
        if not keys.target_sections["pods"].image:
            raise SpecError("pods.image is required for target pods")


class Pods:
    failures: Sequence[FailureRule] = (FailureRule("no such image", "Push it.", words=("imagepullbackoff",)),)

    def steps(self, study: StudyFile) -> list[Any]:
        return [BaseOperator(task_id=f"start_{study.settings.target}")]

    def data_fingerprint(self, _study: StudyFile) -> str:
        return "none"


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """Reads a study file where the registry has one target more."""
    with listed(registry.KINDS, "pods", PodsKind()):
        yield study_reader(tmp_path)


GIVEN = "target: pods\npods: {image: a, pods: 3}\n"


def test_its_studies_get_its_steps(study: Study) -> None:
    given = study(GIVEN)
    with DAG("d", schedule=None):
        steps = target_of(given).steps(given)
    assert [step.task_id for step in steps] == ["start_pods"]
    assert given.has_database
    assert given.values()["pods"] == {"image": "a", "pods": 3}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("target: pods\npods: {imag: a}\n", r"pods: unknown key 'imag' \(did you mean 'image'\?\)"),
        ("target: pods\npods: {image: a, pods: 10}\n", "pods: pods must be at most 9, got 10"),
        ("target: pods\n", "pods.image is required for target pods"),
        ("pods: 7\n", "pods: must be a mapping of keys to values, got int 7"),
        ("target: pod\n", "target: must be one of standalone, databricks, pods, got 'pod'"),
    ],
)
def test_what_it_refuses_is_refused_where_the_file_is_read(study: Study, text: str, sentence: str) -> None:
    with pytest.raises(StudyFileError, match=sentence):
        study(text)


def test_its_section_may_stand_in_a_study_of_another_target(study: Study) -> None:
    assert study("pods: {image: a}\n").settings.target == "standalone"
    with pytest.raises(StudyFileError, match="pods: pods must be at most 9"):
        study("pods: {pods: 10}\n")


def test_its_fields_are_in_the_form_of_its_studies_alone(study: Study) -> None:
    field = form_params(study(GIVEN))["pods_pods"]
    assert (field.value, field.schema["section"]) == (3, CLUSTER)
    assert "pods_image" not in form_params(study(GIVEN))
    assert "pods_pods" not in form_params(study("objective: quadratic\n"))
    assert study(GIVEN).changed({"pods.pods": 5}).values()["pods"]["pods"] == 5


def test_its_keys_and_failures_are_on_the_pages(study: Study) -> None:
    rows = reference_page().splitlines()
    assert "| `pods` | section |  |  | How the study runs on pods, for that target. |" in rows
    assert "| `pods.pods` | whole number, 1 to 9 | `2` | form: `pods_pods` | How many pods. |" in rows
    assert next(row for row in rows if row.startswith("| `target` |")).count("`pods`") == 1
    assert "| no such image | Push it. | no |" in errors_page()
