"""Every number of a study has a largest value: in the form, by REST, and in the study file."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
import yaml

from tests.support.studies import study_reader
from tuning_pipeline.dag.form import form_params
from tuning_pipeline.study_file.declared import study_keys
from tuning_pipeline.study_file.form import all_fields
from tuning_pipeline.study_file.form_field import FormField
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError

Study = Callable[[str], StudyFile]
XGBOOST = "objective: xgboost\ndata: {path: table.csv}\n"
ON_DATABRICKS = (
    "objective: xgboost\ndata: {path: /Volumes/a/b/c/t.csv}\ntarget: databricks\n"
    "databricks: {files: /Volumes/a/b/c, cluster: {node_type: n}}\nform: {fields: [workers]}\n"
)
HUGE = [10**30, -(10**30), 10**400, 1e300, -1e300]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


def kinds(item: FormField) -> set[str]:
    kind = item.schema["type"]
    return {kind} if isinstance(kind, str) else set(kind)


NUMBERS = [item for item in all_fields() if kinds(item) & {"integer", "number"}]
HOLDERS = [item for item in all_fields() if kinds(item) & {"object", "array"} and item.key != "directions"]


@pytest.mark.parametrize("item", NUMBERS, ids=lambda item: item.param)
def test_a_number_of_the_form_has_both_ends(item: FormField) -> None:
    assert {"minimum", "exclusiveMinimum"} & set(item.schema)
    assert {"maximum", "exclusiveMaximum"} & set(item.schema)


def hidden(number: Any) -> Iterator[Any]:
    """The number in what an object or a list may hold."""
    for inner in (number, [number], {"a": number}, {"a": [{"b": [number]}]}):
        yield {"x": inner}
        yield [{"x": inner}]


@pytest.mark.attack("the trigger", "a number by REST that Airflow cannot send to a task", times=len(HUGE))
@pytest.mark.parametrize("item", NUMBERS, ids=lambda item: item.param)
def test_airflow_refuses_a_larger_number_when_a_run_is_triggered(item: FormField, study: Study) -> None:
    params = as_the_scheduler_has_them(study(ON_DATABRICKS if item.key.startswith("databricks") else XGBOOST))
    for number in HUGE:
        refused(params, {item.param: number})


@pytest.mark.attack("the trigger", "a number of that kind inside an object or a list", times=8 * len(HUGE))
@pytest.mark.parametrize("item", [f for f in HOLDERS if f.param != "spark_conf"], ids=lambda item: item.param)
def test_airflow_refuses_a_larger_number_inside_a_value(item: FormField, study: Study) -> None:
    params = as_the_scheduler_has_them(study(XGBOOST))
    for number in HUGE:
        for value in hidden(number):
            refused(params, {item.param: value})


def test_airflow_takes_what_the_form_may_hold(study: Study) -> None:
    params = as_the_scheduler_has_them(study(XGBOOST))
    conf = {
        "trials": 10_000_000,
        "target_value": -1e14,
        "search_space": {"max_depth": {"type": "int", "low": 1, "high": 10**9}},
        "sampler_args": {"n_startup_trials": 5, "group": None, "weights": [0.5, 1]},
        "enqueue": [{"max_depth": 3, "booster": "dart"}],
    }
    params.deep_merge(conf).validate()


def as_the_scheduler_has_them(given: StudyFile) -> Any:
    """The Params of the study's DAG, stored and read again: what the API checks a trigger's conf with."""
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DAG("d", params=form_params(given), schedule=None)
    return DagSerialization.from_dict(DagSerialization.to_dict(dag)).params


def refused(params: Any, conf: Mapping[str, Any]) -> None:
    from airflow.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError, match=f"Invalid input for param {next(iter(conf))}: "):
        params.deep_merge(conf).validate()


def is_number(hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return bool({int, float} & set(kinds))


LIMITS = {declared.path: declared.key for declared in study_keys() if is_number(declared.hint)}


@pytest.mark.parametrize("key", LIMITS)
def test_every_number_of_a_study_file_has_both_ends(key: str) -> None:
    limits = LIMITS[key]
    assert limits.minimum is not None or limits.above is not None or key.endswith("_workers")  # autoscale has a rule
    assert limits.maximum is not None or limits.below is not None


@pytest.mark.parametrize(
    ("key", "limit"), [(key, limits.maximum) for key, limits in LIMITS.items() if limits.maximum is not None]
)
def test_a_study_file_with_a_larger_number_is_a_sentence(key: str, limit: float, study: Study) -> None:
    text = ON_DATABRICKS if key.startswith("databricks") else XGBOOST
    for value in (limit + 1, limit * 1000):
        changed = yaml.safe_load(text)
        section = changed
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        if last.endswith("_workers"):
            section |= {"min_workers": 1, "max_workers": value}
        section[last] = value
        with pytest.raises(StudyFileError, match=rf"{key.rpartition('.')[2]} must be (at most|between|below)"):
            study(yaml.safe_dump(changed | {"form": {"fields": []}}))


@pytest.mark.parametrize(
    "end", ["low: -1.0e+300, high: 1", "low: 1, high: 1.0e+300", "low: 0, high: 1, step: 1.0e+300"]
)
def test_a_search_space_without_end_is_a_sentence(end: str, study: Study) -> None:
    with pytest.raises(StudyFileError, match=r"search_space\.x: numbers must be between -1e\+15 and 1e\+15, got"):
        study(f"objective: quadratic\nsearch_space: {{x: {{type: float, {end}}}}}\nform: {{fields: []}}\n")
