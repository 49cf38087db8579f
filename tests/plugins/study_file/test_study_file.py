"""A study file says what it means, or is refused with file, key, rule and valid keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.dag.form import form_params
from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError, read_study

STUDIES = REPOSITORY / "dags" / "studies"
SHA = "0" * 64

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "example.yaml") -> Path:
        path = tmp_path / "dags" / "studies" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path: Path) -> str:
    with pytest.raises(StudyFileError) as caught:
        read_study(path)
    message = str(caught.value)
    assert message.startswith(f"dags/studies/{path.name}: ")
    return message.partition(": ")[2]


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_studies_of_the_repository_are_right(path: Path) -> None:
    study = read_study(path)
    assert study.to_spec("run").to_json()


def test_an_empty_document_is_refused(write: Write) -> None:
    assert refused(write("")) == "must hold keys and values, got nothing"
    assert refused(write("- a\n- b\n")) == "must hold keys and values, got list ['a', 'b']"


def test_one_line_is_a_study(write: Write) -> None:
    study = read_study(write("objective: quadratic\n"))
    assert study.dag_id == "tune_example"
    spec = study.to_spec("run 1")
    assert (spec.study_name, spec.run_id, spec.trials, spec.directions) == ("example", "run 1", 100, ("minimize",))
    assert spec.search_space == {"x": ParamSpec("float", -10, 10)}


def test_what_reaches_the_cluster_survives_its_json(write: Write) -> None:
    study = read_study(STUDIES / "wine_quality.yaml")
    spec = study.to_spec("run")
    assert TuningSpec.from_json(spec.to_json()) == spec
    assert spec.pruner == ComponentSpec("ExtrapolationPruner", {"flattening": 0.6})


def test_numbers_read_as_people_write_them(write: Write) -> None:
    text = "search_space:\n  lr: {type: float, low: 1e-3, high: 1E2, log: true}\n  x: {type: int, low: 010, high: 20}\n"
    space = read_study(write(text)).settings.search_space
    assert (space["lr"].low, space["lr"].high) == (0.001, 100.0)
    assert space["x"].low == 10


def test_words_are_not_booleans(write: Write) -> None:
    text = "search_space:\n  mode: {type: categorical, choices: [on, off, yes, no, y, true, null]}\n"
    choices = read_study(write(text)).settings.search_space["mode"].choices
    assert choices == ("on", "off", "yes", "no", "y", True, None)
    assert "log: must be true or false, got str 'yes'" in refused(
        write("search_space:\n  x: {type: float, low: 1, high: 2, log: yes}\n")
    )


def test_a_key_given_twice_is_refused(write: Write) -> None:
    assert refused(write("trials: 1\ntasks: 2\ntrials: 3\n")) == (
        "key 'trials' is given twice (lines 1 and 3); keep one of them"
    )


def test_yaml_that_is_none_is_refused_with_its_place(write: Write) -> None:
    assert refused(write("trials: [1\ntasks: 2\n")).startswith("is not valid YAML: line 2, column ")
    assert "could not determine a constructor" in refused(write("trials: !!python/object:os.system x\n"))
    path = write("")
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(path).startswith("cannot be read as YAML: ")


BAD = {
    "trails: 5": "unknown key 'trails' (did you mean 'trials'?); valid keys: artifacts, connections, ",
    "trials: 0": "trials must be at least 1, got 0",
    "trials: many": "trials: must be a whole number, got str 'many'",
    "trials: 1.5": "trials: must be a whole number, got float 1.5",
    "trials: null": "trials: must be a whole number, got nothing",
    "trials: true": "trials: must be a whole number, got bool True",
    "trials:": "trials: must be a whole number, got nothing",
    "tasks: 0": "tasks must be at least 1, got 0",
    "jobs: -1": "jobs must be at least 1, got -1",
    "seed: x": "seed: must be a whole number, got str 'x'",
    "timeout_s: 0": "timeout_s must be above 0, got 0",
    "timeout_s: .nan": "timeout_s: must be a finite number",
    "timeout_s: 90000": "timeout_s and grace_s must add up to less than execution_timeout_s (86400)",
    "{timeout_s: 570, execution_timeout_s: 600}": "killed before it ends by itself; got 570 + 60",
    "retries: -1": "retries must be at least 0, got -1",
    "top_k: 0": "top_k must be at least 1, got 0",
    "tags: example": "tags: must be a list, got str 'example'",
    "tags: ['']": "tags must be texts of 1 to 100 characters",
    "owner: 5": "owner: must be a text, got int 5",
    "study: ../x": "study_name must start with a letter or digit",
    "target: cloud": "target: must be one of standalone, databricks, got 'cloud'",
    "target: databricks": "databricks.files is required for target databricks: name a folder",
    "schedule: 5": "schedule: must be a text, got int 5",
    "start_date: tomorrow": "start_date must be a day such as 2026-01-31, got 'tomorrow'",
    "objective: bayes": "objective must be quadratic, xgboost or module:function, got 'bayes'",
    "objective: [xgboost]": "objective: must be a text, got list ['xgboost']",
    "objective: xgboost": "objective xgboost needs data: give data.path",
    "direction: up": "directions[0]: must be one of minimize, maximize, got str 'up'",
    "direction: minimize\ndirections: [maximize]": "give direction for one objective or directions for several",
    "metric_names: [a, b]": "metric_names must hold one name for each of directions, which are 1, got 2",
    "metric_names: ['']": "metric_names: a name must have 1 to 100 characters that can be seen, got ''",
    'metric_names: ["a\\nb"]': "metric_names: a name must have 1 to 100 characters that can be seen",
    "{directions: [minimize, maximize], metric_names: [a, a]}": "metric_names must differ from each other, got a, a",
    "{objective: xgboost, data: {path: t.csv, label: y}, metric_names: [loss]}": (
        "metric_names is for objectives that do not name their values: xgboost calls them rmse"
    ),
    "directions: []": "directions must name at least one of minimize, maximize",
    "data: table.csv": "data: must be a mapping of keys to values, got str 'table.csv'",
    "data: {label: y}": "data.path: is required but missing",
    "data: {path: ''}": "data: path must name a file, a URL or sklearn:<name>",
    "data: {path: 'https://x.org/t.csv'}": "data: sha256 is required for a URL",
    "data: {path: t.csv, sha256: abc}": "data: sha256 must be 64 lower-case hex digits",
    "data: {path: t.csv, separator: ''}": "data: separator must be one character",
    "data: {path: t.csv, labels: y}": "data: unknown key 'labels' (did you mean 'label'?)",
    "search_space: [x]": "search_space: must be a mapping of keys to values",
    "search_space: {x: {low: 1, high: 2}}": "search_space.x.type: is required but missing",
    "search_space: {x: {type: real, low: 1, high: 2}}": "search_space.x.type: must be one of float, int, categorical",
    "search_space: {x: {type: float, low: 2, high: 1}}": "search_space.x: low must not be above high, got 2 > 1",
    "search_space: {x: {type: float, low: 0, high: 1, log: true}}": "low must be above 0 when log is true",
    "search_space: {x: {type: int, low: 1, high: 4, step: 2, log: true}}": "log and step cannot be combined",
    "search_space: {x: {type: int, low: 1.5, high: 4}}": "must be whole numbers",
    "search_space: {x: {type: categorical}}": "search_space.x: a categorical parameter needs at least one entry",
    "search_space: {x: {type: float, low: 1}}": "search_space.x: a float parameter needs low and high",
    "sampler: NoSampler": "sampler: unknown sampler 'NoSampler'",
    "sampler: {name: TPESampler, args: {n_startup: 3}}": "sampler.args: unknown key 'n_startup'",
    "pruner: {name: MedianPrunerr}": "pruner: unknown pruner 'MedianPrunerr' (did you mean 'MedianPruner'?)",
    "pruner: {args: {}}": "pruner.name: is required but missing",
    "distribution: spark": "distribution: must be one of joblib, rdd, dataframe, local",
    "distribution: local": "distribution local is for runs without Spark",
    "coordination: me": "coordination: must be one of driver, database",
    "resources: {gpus_per_task: 1.5}": "resources: gpus_per_task must be 0, a fraction up to 1, or a whole number",
    "resources: {gpus: 1}": "resources: unknown key 'gpus'",
    "stop: {max_failures: 0}": "stop: max_failures must be at least 1",
    "xgboost: {folds: 3}": "the xgboost section is for objective xgboost, not quadratic",
    "enqueue: [1]": "enqueue[0]: must be a mapping of keys to values, got int 1",
    "spark: {conf: {master: x}}": "spark: conf keys start with 'spark.', got 'master'",
    "spark: {conf: {spark.master: x}}": "spark: conf key spark.master is set by the Spark connection",
    "spark: {conf: {spark.task.cpus: 2}}": "conf key spark.task.cpus is set by resources.cpus_per_task",
    "spark: {conf: {spark.ssl.keyPassword: x}}": "looks like a secret",
    "spark: {conf: {spark.a: [1]}}": "conf value of spark.a must be a text, a number or true/false",
    "spark: {executor_memory: big}": "spark: executor_memory must be a size such as 2g or 512m, got 'big'",
    "spark: {executor_cores: 0}": "spark: executor_cores must be at least 1",
    "connections: {db: x}": "connections: unknown key 'db'; valid keys: admin, database, databricks, spark",
    'database: {host_pattern: "x\' OR 1"}': "database: host_pattern must be a host",
    "database: {wait_s: -1}": "database: wait_s must be at least 0",
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=BAD)
def test_a_wrong_key_or_value_is_refused(write: Write, text: str, message: str) -> None:
    assert message in refused(write(text))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "search_space: {max_bins: {type: int, low: 2, high: 9}}",
            "XGBoost would ignore a parameter called 'max_bins'",
        ),
        ("xgboost: {fixed: {n_estimators: 9}}", "n_estimators"),
        ("xgboost: {fixed: {device: cuda}}", "device"),
        ("xgboost: {rounds: 9}", "xgboost: unknown key 'rounds'; valid keys: early_stopping_rounds"),
        ("xgboost: {holdout: 1}", "xgboost: holdout must be between 0 and 1 (exclusive), got 1"),
        (
            "xgboost: {task: binary, metric: auc}",
            "directions: auc is better when larger: set its direction to maximize",
        ),
        ("xgboost: {metric: auc}", "xgboost.metric: must be a metric for task regression (rmse, rmsle, mae"),
        ("xgboost: {task: ranking}", "xgboost.task: must be one of regression, binary, multiclass"),
    ],
)
def test_a_wrong_xgboost_entry_is_refused(write: Write, entry: str, message: str) -> None:
    assert message in refused(write(f"objective: xgboost\ndata: {{path: sklearn:diabetes}}\n{entry}\n"))


def test_the_short_form_of_directions_is_among_the_valid_keys(write: Write) -> None:
    assert " direction, directions," in refused(write("directon: minimize"))


def test_a_file_name_that_is_no_dag_id_is_refused(write: Write) -> None:
    assert refused(write("objective: quadratic", "my study.yaml")).startswith("the file name may hold letters")


def test_relative_paths_are_those_of_the_study_file(write: Write, tmp_path: Path) -> None:
    text = (
        "objective: xgboost\ndata: {path: ../../t.csv}\nexports: out\n"
        "spark: {py_files: [helper.py], archives: ['env.tar.gz#env', 's3://bucket/e.zip']}\n"
    )
    settings = read_study(write(text)).settings
    folder = tmp_path.resolve() / "dags" / "studies"
    assert settings.data is not None
    assert settings.data.path == str(tmp_path.resolve() / "t.csv")
    assert settings.exports == str(folder / "out")
    assert settings.spark.py_files == (str(folder / "helper.py"),)
    assert settings.spark.archives == (f"{folder}/env.tar.gz#env", "s3://bucket/e.zip")


@pytest.mark.parametrize("path", ["sklearn:wine", "/data/t.csv", "s3://bucket/t.parquet", "dbfs:/t.csv"])
def test_other_paths_stay(write: Write, path: str) -> None:
    data = read_study(write(f"data: {{path: '{path}'}}\n")).settings.data
    assert data is not None
    assert data.path == path


def test_a_list_of_paths_is_resolved_one_by_one(write: Write, tmp_path: Path) -> None:
    data = read_study(write("data: {path: ['../../part-*.csv', /data/t.csv]}\n")).settings.data
    assert data is not None
    assert data.path == (str(tmp_path.resolve() / "part-*.csv"), "/data/t.csv")
    assert "data_path is one text" in refused(write("data: {path: [a, b]}\nform: {fields: [data_path]}\n"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{path: []}", "path must name a file, a URL or sklearn:<name>, got an empty text or list"),
        ("{path: [a, '']}", "got an empty text or list"),
        ("{path: [a, 'sklearn:wine']}", "may list files and folders only, got sklearn:wine"),
        ("{path: [a, 'https://h.org/t.csv']}", "may list files and folders only, got https://h.org/t.csv"),
        ("{path: [a, b], format: table}", "must name one table of Spark's catalog, got a list"),
        ("{path: a, encoding: klingon}", "encoding must be one that Python knows, such as latin-1 or utf-16, got 'kl"),
        ("{path: a, encoding: base64}", "encoding must be one that Python knows"),
        ("{path: a, columns: {omit: [b]}}", "data.columns: unknown key 'omit'"),
        ("{path: a, categorical: town}", "categorical must be auto, a list of columns or null, got 'town'"),
        ("{path: a, missing: NA}", "data.missing: must be a list, got str 'NA'"),
    ],
)
def test_what_says_how_to_read_a_table_is_checked(write: Write, data: str, message: str) -> None:
    assert message in refused(write(f"objective: xgboost\ndata: {data}\n"))


def test_a_table_of_the_catalog_is_a_name_and_no_path(write: Write) -> None:
    text = "objective: xgboost\ndistribution: {}\ndata: {{path: lake.sales, format: table}}\n"
    settings = read_study(write(text.format("dataframe"))).settings
    assert settings.data is not None
    assert settings.data.path == "lake.sales"
    assert "tables of Spark's catalog, need distribution dataframe" in refused(write(text.format("joblib")))


def test_spark_reads_formats_that_workers_do_not(write: Write) -> None:
    study = read_study(write("distribution: dataframe\ndata: {path: /t.orc, format: orc}\n"))
    assert form_params(study)["data_format"].resolve() == "orc"


def test_exports_go_beside_the_dag_folder_unless_told(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNING_EXPORTS", raising=False)
    study = read_study(write("objective: quadratic\n"))
    assert study.exports_base() == str(tmp_path.resolve() / "exports")
    monkeypatch.setenv("TUNING_EXPORTS", "s3://bucket/exports")
    assert study.exports_base() == "s3://bucket/exports"
    assert read_study(write("exports: /mnt/out\n")).exports_base() == "/mnt/out"


def test_a_changed_study_is_checked_like_a_file(write: Write) -> None:
    study = read_study(write("objective: quadratic\n"))
    changed = study.changed({"trials": 7, "sampler.name": "RandomSampler", "stop.max_retries": 0})
    assert (changed.settings.trials, changed.settings.sampler.name) == (7, "RandomSampler")
    assert changed.settings.stop.max_retries == 0
    assert study.settings.trials == 100
    with pytest.raises(StudyFileError, match="trials must be at least 1, got 0"):
        study.changed({"trials": 0})


def test_a_broken_file_leaves_the_others_alone(write: Write) -> None:
    write("objective: quadratic", "good.yaml")
    write("trials: 0", "bad.yaml")
    write("schedule: every day", "late.yaml")
    found = read_studies(write("schedule: '@daily'", "fine.yml").parent)
    assert [study.name for study in found.studies] == ["fine", "good"]
    bad, late = found.errors
    assert bad == "dags/studies/bad.yaml: trials must be at least 1, got 0"
    assert late.startswith(
        "dags/studies/late.yaml: schedule: must be a cron expression, a preset such as @daily, or null"
    )


def test_a_file_that_breaks_the_reader_is_told_too(write: Write) -> None:
    write("enqueue: &a [{x: *a}]", "endless.yaml")
    found = read_studies(write("objective: quadratic", "good.yaml").parent)
    assert [study.name for study in found.studies] == ["good"]
    assert found.errors[0].startswith("dags/studies/endless.yaml: ")


@pytest.mark.parametrize("schedule", ["0 3 * * 1", "@weekly", "@once", "@continuous", None])
def test_schedules_that_airflow_knows(write: Write, schedule: str | None) -> None:
    text = f"schedule: {schedule!r}\n" if schedule else "schedule: null\n"
    (study,) = read_studies(write(text).parent).studies
    assert isinstance(study, StudyFile)
    assert study.settings.schedule == schedule


@pytest.mark.parametrize(
    "text",
    [
        "sampler: 'no_such_package.samplers:MySampler'",
        "pruner: {name: 'no_such_package.samplers:MyPruner', args: {rate: 2}}",
        "sampler: {name: PartialFixedSampler, args: {fixed_params: {}, base_sampler: {name: 'no_such_package:A'}}}",
    ],
)
def test_a_sampler_of_another_package_is_not_imported_by_airflow(write: Write, text: str) -> None:
    assert read_study(write(text))


def test_the_name_of_such_a_sampler_is_checked(write: Write) -> None:
    assert refused(write("sampler: 'my package:A'")).startswith("sampler: must be a class of Optuna's or module:")
