"""The trigger form: typed, explained, and what it says reaches the run or is refused."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

from init.local.layout import REPOSITORY
from tuning_pipeline.dag.form import form_params, mode_of, study_of_run
from tuning_pipeline.study_file.form import all_fields, possible_fields
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError, read_study

STUDIES = REPOSITORY / "dags" / "studies"


@pytest.fixture(scope="module")
def wine() -> StudyFile:
    return read_study(STUDIES / "wine_quality.yaml")


@pytest.fixture(scope="module")
def quadratic() -> StudyFile:
    return read_study(STUDIES / "quadratic.yaml")


def values(params: dict[str, Param]) -> dict[str, Any]:
    return {name: param.resolve() for name, param in params.items()}


def with_fields(study: StudyFile, *names: str) -> StudyFile:
    """The study, as if its file listed these fields."""
    return study.changed({"form.fields": list(names)})


def with_value(study: StudyFile, name: str, value: object) -> Any:
    param = form_params(study)[name]
    return Param(value, **param.schema).resolve()


def test_the_untouched_form_changes_nothing(wine: StudyFile) -> None:
    assert study_of_run(wine, values(form_params(wine)), None).to_spec("r") == wine.to_spec("r")


def test_every_field_has_a_type_and_an_explanation(wine: StudyFile) -> None:
    for name, param in form_params(wine).items():
        assert "type" in param.schema, name
        assert len(param.description or "") > 10, name


def test_the_key_fields_stand_first_and_open(wine: StudyFile) -> None:
    params = form_params(wine)
    assert list(params)[:4] == ["mode", "trials", "tasks", "timeout_s"]
    assert [name for name, param in params.items() if "section" not in param.schema] == list(params)[:4]


def test_fields_without_meaning_are_left_out(quadratic: StudyFile) -> None:
    assert not [name for name in form_params(quadratic) if name.startswith(("xgboost", "data"))]


def test_every_field_replaces_a_key_of_the_study_file(wine: StudyFile) -> None:
    for item in possible_fields(wine.settings):
        wine.changed({item.key: wine.document.get(item.key)} if item.key in wine.document else {})
    assert len({item.param for item in all_fields()}) == len(all_fields())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trials", 0),
        ("trials", "5"),
        ("trials", None),
        ("tasks", -1),
        ("timeout_s", 0),
        ("mode", "delete"),
        ("seed", 1.5),
        ("seed", -1),
        ("distribution", "local"),
        ("directions", ["up"]),
        ("directions", []),
        ("gpus_per_task", -0.5),
        ("data_separator", ";;"),
        ("tasks", 10**9),
        ("spark_executor_memory", "2g -XX:OnError=sh"),
        ("validation_holdout", 1),
        ("validation_folds", 1),
        ("enqueue", [1]),
        ("search_space", []),
        ("top_k", 0),
    ],
)
def test_the_form_refuses_what_cannot_be(wine: StudyFile, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        with_value(wine, name, value)


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("timeout_s", None, "timeout_s"),
        ("timeout_s", 12.5, "timeout_s"),
        ("seed", None, "seed"),
        ("trials", 3, "trials"),
        ("gpus_per_task", 0.25, "resources.gpus_per_task"),
        ("validation_folds", 3, "validation.folds"),
        ("xgboost_metric", ["mae"], "xgboost.metric"),
        ("target_value", 0.5, "stop.target_value"),
        ("sampler", "RandomSampler", "sampler.name"),
        ("spark_executor_memory", "2g", "spark.executor_memory"),
        ("data_format", "parquet", "data.format"),
    ],
)
def test_what_the_form_says_reaches_the_run(wine: StudyFile, name: str, value: object, key: str) -> None:
    params = values(form_params(wine)) | {name: with_value(wine, name, value)}
    found: Any = study_of_run(wine, params, {name: value}).values()
    for part in key.split("."):
        found = found[part]
    assert found == value


def test_an_unknown_key_is_refused_with_the_valid_ones(wine: StudyFile) -> None:
    with pytest.raises(StudyFileError) as caught:
        study_of_run(wine, values(form_params(wine)), {"trails": 5})
    message = str(caught.value)
    assert message.startswith("trigger conf: unknown key 'trails' (did you mean 'trials'?); valid keys: ")
    assert "xgboost_num_boost_round" in message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("trials", 0, "trials must be at least 1, got 0"),
        ("data_format", "orc", "data.format must be csv or parquet with distribution rdd, got 'orc'"),
        ("sampler", "NoSampler", "sampler: a run may name one of TPESampler, .*, got str 'NoSampler'"),
        ("sampler_args", {"n_startup": 3}, "unknown key 'n_startup'"),
        ("search_space", {"x": {"type": "float"}}, "a float parameter needs low and high"),
        ("search_space", {"max_bins": {"type": "int", "low": 1, "high": 2}}, "XGBoost would ignore"),
        ("spark_executor_memory", "big", "spark_executor_memory: must match"),
    ],
)
def test_what_a_form_cannot_check_is_refused_by_the_first_task(
    wine: StudyFile, name: str, value: object, message: str
) -> None:
    with pytest.raises(StudyFileError, match=message):
        study_of_run(wine, values(form_params(wine)) | {name: value}, {name: value})


def test_a_field_that_the_author_lists_keeps_its_rules(wine: StudyFile) -> None:
    listed = with_fields(wine, "spark_conf", "data_sha256")
    with pytest.raises(StudyFileError, match=r"is set by resources\.cpus_per_task"):
        study_of_run(listed, {"spark_conf": {"spark.task.cpus": 2}}, None)
    with pytest.raises(ParamValidationError):
        with_value(listed, "data_sha256", "abc")


def test_the_mode_is_checked(wine: StudyFile) -> None:
    assert mode_of({}) == "resume"
    with pytest.raises(StudyFileError, match="mode must be one of resume, reset, create, got str 'drop'"):
        mode_of({"mode": "drop"})


def test_a_metric_that_does_not_suit_the_direction_is_refused_by_the_run_s_first_task(wine: StudyFile) -> None:
    params = values(form_params(wine)) | {"xgboost_task": "binary", "xgboost_metric": "auc"}
    with pytest.raises(StudyFileError, match="directions: auc is better when larger: set its direction to maximize"):
        study_of_run(wine, params, {})
