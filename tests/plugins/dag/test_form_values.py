"""Whoever may only trigger a DAG names no code, file, address, option or secret, whatever the run's conf says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from optuna_spark.spec.key import Field, Reach
from tests.support.studies import study_reader
from tuning_pipeline.dag.form import form_params, study_of_run
from tuning_pipeline.study_file.form import all_fields, offered_fields
from tuning_pipeline.study_file.form_field import FormField
from tuning_pipeline.study_file.study_file import FormError, StudyFile, StudyFileError

Study = Callable[[str], StudyFile]
TABLE = "objective: xgboost\ndata: {path: table.csv}\n"
OWN = "objective: mine:objective\nsearch_space: {model: {type: categorical, choices: [small, large]}}\n"
ON_DATABRICKS = (
    "objective: xgboost\ndata: {path: /Volumes/a/b/c/t.csv}\ntarget: databricks\n"
    "databricks: {files: /Volumes/a/b/c, cluster: {node_type: n}}\n"
)
# What names code, files, addresses, options of an interpreter and secrets, in the words of all that reads them.
NAMES = [
    "os:system", "os.system", "mine:other", "com.evil.Source", "__import__('os')", "evil.jar", "PartialFixedSampler",
    "PatientPruner", "jdbc", "binaryFile", "text", "approx", "custom",
    "/etc/passwd", "../../secrets.env", "file:///etc/passwd", "dbfs:/secrets", "sklearn:../x", "csv.`/etc/passwd`",
    "http://169.254.169.254/latest", "s3a://bucket/x", "jdbc:mysql://127.0.0.1/x?user=root", "127.0.0.1:22",
    "-XX:OnOutOfMemoryError=/bin/sh", "$(id)", "; id", "--conf", "-javaagent:/tmp/a.jar",
    "{{ conn.tuning_db.password }}", "{{secrets/tuning/database-password}}", "${env:HOME}",
]  # fmt: skip
# The same hidden in what a field of this kind may hold.
NESTED: list[Callable[[str], Any]] = [
    lambda name: {"a": name},
    lambda name: {"a": {"b": [name]}},
    lambda name: {"name": name},
    lambda name: {"base_sampler": {"name": name, "args": {}}},
    lambda name: {"wrapped_pruner": {"name": name}},
    lambda name: {"max_depth": {"type": "categorical", "choices": [1, name]}},
    lambda name: {"grow_policy": {"type": "categorical", "choices": [name]}},
    lambda name: {"max_depth": {"type": name, "low": 1, "high": 2}},
    lambda name: {"grow_policy": name},
    lambda name: {"interaction_constraints": name},
    lambda name: {"base_score": name},
    lambda name: {"updater": name},
    lambda name: [name],
    lambda name: [{"max_depth": name}],
]
# As the name of a parameter a plain word is nothing but that.
NAMED: list[Callable[[str], Any]] = [lambda name: {name: 1}, lambda name: [{name: 1}]]
TRIES = 2 * len(NAMES)  # and more where a field holds values in values
# Texts that reach nothing, whatever they say: the name of a column is looked up among the table's.
FREE = {"data_label"}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    beside = tmp_path / "dags" / "studies" / "mine.py"
    beside.parent.mkdir(parents=True)
    beside.write_text("def objective(trial): ...\n")
    return study_reader(tmp_path)


def triggered(given: StudyFile, **conf: Any) -> StudyFile:
    """As a task sees a run: Airflow lays the conf over the Params, and keeps what it does not know."""
    params = {name: param.value for name, param in form_params(given).items()}
    return study_of_run(given, params | conf, conf)


def tries(item: FormField) -> Iterator[Any]:
    kinds = item.schema["type"]
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    for name in NAMES:
        yield name
        if not {"object", "array"} & kinds:
            yield [{"a": name}]
            continue
        yield from (hidden(name) for hidden in NESTED)
        yield from (hidden(name) for hidden in NAMED if not name.isidentifier())


PLAIN = [item for item in all_fields() if item.reach is Reach.NOTHING]
CASES = [(TABLE, item) for item in PLAIN] + [(OWN, item) for item in PLAIN if item.key in ("search_space", "enqueue")]


@pytest.mark.attack("the trigger", "names of code, files, addresses, secrets in a form field", TRIES)
@pytest.mark.parametrize(("text", "item"), CASES, ids=lambda case: case.param if isinstance(case, FormField) else "")
def test_a_field_of_the_default_form_names_nothing(study: Study, text: str, item: FormField) -> None:
    given = study(text)
    params = {name: param.value for name, param in form_params(given).items()}
    assert item.param in params
    for value in tries(item):
        if isinstance(value, str) and item.param in FREE:
            continue
        with pytest.raises(StudyFileError, match=r".+"):
            study_of_run(given, params | {item.param: value}, {item.param: value})


@pytest.mark.attack("the trigger", "a field that reaches further than the search, not listed in the study file")
@pytest.mark.parametrize("item", [f for f in all_fields() if f.reach is not Reach.NOTHING], ids=lambda f: f.param)
def test_a_field_that_reaches_further_is_offered_only_where_the_author_lists_it(study: Study, item: FormField) -> None:
    text = ON_DATABRICKS if item.key.startswith("databricks") else TABLE
    given = study(text)
    assert item.param not in form_params(given)
    with pytest.raises(StudyFileError) as caught:
        triggered(given, **{item.param: None})
    message = str(caught.value)
    assert f"this study's form does not offer {item.param}: it decides {item.reach.value}" in message
    assert "under form.fields" in message
    listed = study(f"{text}form: {{fields: [trials, {item.param}]}}\n")
    assert list(form_params(listed)) == ["mode", "trials", item.param]


SHELL = "-XX:OnOutOfMemoryError='sh -c id>/tmp/x' -Xmx1m"
CONFS: list[dict[str, Any]] = [
    {"spark_conf": {"spark.driver.extraJavaOptions": SHELL}},
    {"spark_conf": {"spark.executor.extraJavaOptions": SHELL}},
    {"spark_conf": {"spark.pyspark.driver.python": "/tmp/evil"}},
    {"spark_conf": {"spark.pyspark.python": "/tmp/evil"}},
    {"spark_conf": {"spark.jars": "http://evil/a.jar", "spark.plugins": "com.evil.Plugin"}},
    {"spark_conf": {"spark.python.daemon.module": "evil"}},
    {"spark_conf": {"spark.files": "/etc/passwd"}},
    {"spark": {"conf": {"spark.driver.extraJavaOptions": SHELL}}},
    {"spark.conf": {"spark.driver.extraJavaOptions": SHELL}},
    {"data_path": "/run/secrets/database"},
    {"data_path": "http://169.254.169.254/latest", "data_sha256": "0" * 64},
    {"data": {"path": "/run/secrets/database"}},
    {"data_format_options": {"url": "jdbc:mysql://x"}},
    {"data_sha256": "0" * 64},
    {"coordination": "database"},
    {"objective": "os:system"},
    {"py_files": ["/tmp/evil.py"]},
    {"spark_py_files": ["/tmp/evil.py"]},
    {"archives": ["/tmp/evil.tar.gz"]},
    {"spark_archives": ["/tmp/evil.tar.gz"]},
    {"connections": {"database": "another"}},
    {"connections_spark": "another"},
    {"exports": "/etc"},
    {"on_failure": "os:system"},
    {"database": {"host_pattern": "%"}},
    {"study": "another"},
    {"form": {"fields": ["spark_conf"]}},
    {"form_fields": ["spark_conf"]},
    {"node_type": "p5.48xlarge"},
    {"workers": 1000},
    {"databricks": {"cluster": {"init_scripts": ["/Workspace/evil"]}}},
]


@pytest.mark.attack("the trigger", "a conf that names code, files, connections or Spark properties")
@pytest.mark.parametrize("conf", CONFS, ids=lambda conf: "+".join(conf))
@pytest.mark.parametrize("text", [TABLE, OWN, ON_DATABRICKS], ids=["xgboost", "own objective", "databricks"])
def test_a_conf_that_reaches_further_is_refused(study: Study, text: str, conf: dict[str, Any]) -> None:
    given = study(text)
    with pytest.raises(StudyFileError, match=r"^trigger conf: "):
        triggered(given, **conf)
    with pytest.raises(StudyFileError, match=r"^trigger conf: "):
        study_of_run(given, {}, conf)


def test_what_decides_where_a_study_goes_and_what_it_runs_has_no_field(study: Study) -> None:
    theirs: tuple[str, ...] = (
        "objective",
        "spark.py_files",
        "spark.archives",
        "connections",
        "exports",
        "study",
        "form",
        "on_failure",
    )
    theirs += (
        "database",
        "data.format_options",
        "data.columns",
        "data.categorical",
        "data.missing",
        "data.encoding",
        "retune",
        "pool",
        "owner",
        "target",
        "coordinator",
        "schedule",
    )
    assert not [item.key for item in all_fields() for key in theirs if f"{item.key}.".startswith(f"{key}.")]
    with pytest.raises(StudyFileError, match=r"form.fields: unknown field 'objective'; valid fields: "):
        study(f"{TABLE}form: {{fields: [objective]}}\n")


def test_every_key_that_names_code_files_or_addresses_says_so() -> None:
    reach = {item.key: item.reach for item in all_fields()}
    assert reach["data.path"] is reach["data.sha256"] is Reach.FILE
    assert reach["spark.conf"] is Reach.OPTION
    assert reach["coordination"] is Reach.SECRET
    assert {value for key, value in reach.items() if key.startswith("databricks.")} == {Reach.MACHINES}
    with pytest.raises(TypeError, match="reach"):
        Field()  # type: ignore[call-arg]  # a new field has to answer


def test_a_run_may_give_what_the_form_offers(study: Study) -> None:
    conf: dict[str, Any] = {
        "sampler": "CmaEsSampler",
        "sampler_args": {"warn_independent_sampling": False},
        "pruner": "HyperbandPruner",
        "pruner_args": {"max_resource": "auto"},
        "search_space": {
            "max_depth": {"type": "int", "low": 1, "high": 5},
            "grow_policy": {"type": "categorical", "choices": ["depthwise", "lossguide", None]},
        },
        "enqueue": [{"max_depth": 3, "grow_policy": "lossguide"}],
        "xgboost_fixed": {"booster": "dart", "monotone_constraints": "(1,-1,0)"},
        "xgboost_metric": "mae",
        "data_format": "parquet",
        "spark_executor_memory": "2g",
    }
    changed = triggered(study(TABLE), **conf).settings
    assert changed.sampler.name == "CmaEsSampler"
    assert changed.search_space["grow_policy"].choices == ("depthwise", "lossguide", None)
    assert changed.objective_section["fixed"]["booster"] == "dart"


def test_a_run_may_give_the_texts_its_study_file_has(study: Study) -> None:
    space = {"model": {"type": "categorical", "choices": ["large"]}}
    changed = triggered(study(OWN), search_space=space, enqueue=[{"model": "large"}])
    assert changed.settings.search_space["model"].choices == ("large",)


def test_the_study_file_may_name_more_than_a_run(study: Study) -> None:
    text = (
        "objective: quadratic\nsampler: {name: PartialFixedSampler, args: {fixed_params: {x: 1}, "
        "base_sampler: {name: RandomSampler}}}\n"
    )
    given = study(text)
    assert triggered(given, trials=3).settings.sampler.name == "PartialFixedSampler"
    with pytest.raises(StudyFileError, match=r"a run may name one of TPESampler, .* other ones are for the study file"):
        triggered(study("objective: quadratic\n"), sampler="PartialFixedSampler")


def test_a_catalog_table_of_a_run_is_a_plain_name(study: Study) -> None:
    given = study(
        "objective: xgboost\ndistribution: dataframe\ndata: {path: main.sales.train, format: table}\n"
        "form: {fields: [data_path]}\n"
    )
    assert triggered(given, data_path="main.other").settings.data is not None
    for path in ("csv.`/etc/passwd`", "`com.evil.Source`.`/x`", "a b"):
        with pytest.raises(StudyFileError, match=r"a table is named as table, schema.table"):
            triggered(given, data_path=path)


@pytest.mark.attack("the trigger", "numbers that no machine can hold", times=9)
def test_no_number_is_larger_than_makes_sense(study: Study) -> None:
    given = study(TABLE)
    huge: list[dict[str, Any]] = [
        {"trials": 10**400},
        {"trials": -(10**400)},
        {"jobs": 10**6},
        {"tasks": 10**9},
        {"target_value": 1e300},
        {"sampler_args": {"n_ei_candidates": 10**9}},
        {"sampler": "GridSampler", "sampler_args": {"search_space": {f"x{i}": list(range(100)) for i in range(8)}}},
        {"search_space": {"max_depth": {"type": "int", "low": 1, "high": 10**30}}},
        {"enqueue": [{f"x{i}": 1 for i in range(100)} for _ in range(1000)]},
    ]
    for conf in huge:
        with pytest.raises(StudyFileError, match=r"must be at most|numbers must be|must hold at most|grid"):
            triggered(given, **conf)


def test_a_field_that_means_nothing_or_that_nobody_knows_is_an_error(study: Study) -> None:
    with pytest.raises(StudyFileError, match=r"form.fields: xgboost_task means nothing for this study; remove it"):
        study("objective: quadratic\nform: {fields: [xgboost_task]}\n")
    with pytest.raises(StudyFileError, match=r"unknown field 'trails' \(did you mean 'trials'\?\); valid fields: "):
        study("objective: quadratic\nform: {fields: [trails]}\n")
    with pytest.raises(StudyFileError, match=r"form.fields: trials is listed twice; remove one"):
        study("objective: quadratic\nform: {fields: [trials, trials]}\n")


def test_an_author_may_offer_less(study: Study) -> None:
    given = study("objective: quadratic\nform: {fields: []}\n")
    assert list(form_params(given)) == ["mode"]
    with pytest.raises(StudyFileError, match=r"does not offer trials; its author can list it under form\.fields"):
        triggered(given, trials=3)


def test_offered_fields_keep_the_order_of_the_form(study: Study) -> None:
    given = study(f"{TABLE}form: {{fields: [data_path, tasks, trials]}}\n")
    assert [item.param for item in offered_fields(given.settings)] == ["trials", "tasks", "data_path"]


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"trials": 0}, "trials must be at least 1, got 0"),
        ({"timeout_s": 1e6}, "timeout_s and grace_s must add up to less than execution_timeout_s (86400)"),
        ({"enqueue": [{"max_dept": 3}]}, "enqueue[0]: unknown parameter 'max_dept' (did you mean 'max_depth'?)"),
        ({"enqueue": [{"max_depth": 99}]}, "enqueue[0].max_depth: must be from 1 to 10, got 99"),
        ({"search_space": {"max_depth": {"type": "int", "low": 9, "high": 1}}}, "low must not be above high"),
        ({"xgboost_folds": -1}, "xgboost: folds must be"),
        ({"gpus_per_task": 2}, "resources: gpus_per_task must be at most 1 for objective xgboost"),
        ({"mode": "again"}, "mode must be one of resume, reset, create, got str 'again'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_blamed_on_the_form_and_not_on_the_file(
    study: Study, conf: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(FormError) as caught:
        triggered(study(TABLE), **conf)
    assert str(caught.value).startswith("trigger conf: ")
    assert sentence in str(caught.value)
    assert "example.yaml" not in str(caught.value)
    assert caught.value.next == "Trigger again with another value; the study file is right as it is."
    assert not caught.value.retry


OTHERS = """
objective: quadratic
sampler: {name: 'pack.samplers:Mine', args: {rate: 2, base: {name: 'pack.samplers:Base'}, label: 'os:system'}}
search_space: {x: {type: float, low: 0, high: 1}, k: {type: categorical, choices: ['os:system', 'pack:Other']}}
"""


@pytest.mark.parametrize(
    "conf",
    [
        {"sampler": "pack.samplers:Other"},
        {"sampler": "os:system"},
        {"pruner": "pack.samplers:Mine"},
        {"sampler_args": {"base": {"name": "os:system"}}},  # a text of the file, but not as a class
        {"sampler_args": {"base": {"name": "pack:Other", "args": {}}}},
        {"pruner_args": {"wrapped_pruner": {"name": "pack.samplers:Base"}}},
        {"sampler_args": {"deep": {"base": {"name": "os:system"}}}},
    ],
)
def test_a_run_names_no_class_of_another_package_but_those_of_its_file(study: Study, conf: dict[str, Any]) -> None:
    with pytest.raises(FormError, match="a run may name"):
        triggered(study(OTHERS), **conf)


def test_a_run_may_change_the_numbers_of_such_a_sampler(study: Study) -> None:
    args = {"rate": 3, "base": {"name": "pack.samplers:Base"}, "label": "os:system"}
    assert triggered(study(OTHERS), sampler_args=args).settings.sampler.args == args
    assert triggered(study(OTHERS), sampler="RandomSampler", sampler_args={}).settings.sampler.name == "RandomSampler"
