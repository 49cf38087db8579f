"""A study file: what it may say, and how it becomes a TuningSpec."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optuna_spark.decode import describe, from_dict, unknown_key
from optuna_spark.errors import SpecError, TuningError
from optuna_spark.objectives.defaults import effective_search_space
from optuna_spark.objectives.xgboost_params import check_parameters
from optuna_spark.spec import (
    ComponentSpec,
    Coordination,
    CoordinatorSpec,
    DataSpec,
    Direction,
    Distribution,
    ParamSpec,
    ResourceSpec,
    StopSpec,
    TuningSpec,
    XGBoostSpec,
)
from tuning_pipeline.databricks_settings import DatabricksSettings, check_databricks
from tuning_pipeline.retune_settings import RetuneSettings, check_retune
from tuning_pipeline.study_yaml import read_yaml

DAY_S = 86_400
DEFAULT_SAMPLER = ComponentSpec("TPESampler")
DEFAULT_PRUNER = ComponentSpec("NopPruner")
_SIZE = re.compile(r"[1-9][0-9]*[kmgtKMGT]?[bB]?")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_SECRET = re.compile(r"secret|password|token|access[._-]?key", re.IGNORECASE)
_OWN_CONF = {
    "spark.master": "the Spark connection",
    "spark.submit.deployMode": "the Spark connection",
    "spark.task.cpus": "resources.cpus_per_task",
    "spark.task.resource.gpu.amount": "resources.gpus_per_task",
}


class StudyFileError(TuningError):
    """A study file, or the form that changes it, is wrong; the message names file, key and rule."""


@dataclass(frozen=True)
class SparkSettings:
    """How the Spark application is submitted.

    Attributes:
        conf: Spark properties; they win over what is derived from tasks and resources.
        executor_cores, executor_memory, driver_memory: As spark-submit knows them ("4", "8g", "2g").
        py_files: Python files or zips the objective needs.
        archives: Archives Spark unpacks on each worker, `path#name`.
    """

    conf: dict[str, Any] = field(default_factory=dict)
    executor_cores: int | None = None
    executor_memory: str | None = None
    driver_memory: str | None = None
    py_files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.executor_cores is not None and self.executor_cores < 1:
            raise SpecError(f"executor_cores must be at least 1, got {self.executor_cores}")
        for name in ("executor_memory", "driver_memory"):
            value = getattr(self, name)
            if value is not None and not _SIZE.fullmatch(value):
                raise SpecError(f"{name} must be a size such as 2g or 512m, got {value!r}")
        for key, value in self.conf.items():
            self._check_conf(key, value)

    @staticmethod
    def _check_conf(key: str, value: object) -> None:
        if not key.startswith("spark."):
            raise SpecError(f"conf keys start with 'spark.', got {key!r}")
        if key in _OWN_CONF:
            raise SpecError(f"conf key {key} is set by {_OWN_CONF[key]}; remove it here")
        if _SECRET.search(key):
            raise SpecError(
                f"conf key {key} looks like a secret, and conf values are readable in the process list:"
                " put it into spark-defaults.conf on the driver's machine"
            )
        if not isinstance(value, bool | int | float | str):
            raise SpecError(f"conf value of {key} must be a text, a number or true/false, got {describe(value)}")


@dataclass(frozen=True)
class ConnectionIds:
    """Airflow connection ids.

    Attributes:
        database: The tuning account: what workers use.
        admin: May create databases and accounts; without it the database must be there already.
        spark: The Spark master.
        databricks: The Databricks workspace.
    """

    database: str = "tuning_db"
    admin: str = "tuning_db_admin"
    spark: str = "tuning_spark"
    databricks: str = "tuning_databricks"


@dataclass(frozen=True)
class DatabaseSettings:
    """How the study's database is made ready.

    Attributes:
        host_pattern: Hosts the tuning account may connect from, in MySQL's notation: '%' = any.
        wait_s: How long to wait for a server that does not answer.
    """

    host_pattern: str = "%"
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.:%/-]{1,255}", self.host_pattern):
            raise SpecError(f"host_pattern must be a host, an address or a pattern with %, got {self.host_pattern!r}")
        if self.wait_s < 0:
            raise SpecError(f"wait_s must be at least 0, got {self.wait_s:g}")


@dataclass(frozen=True)
class StudySettings:
    """The keys of a study file. Those it shares with TuningSpec are explained there.

    Attributes:
        study: Name of the Optuna study; by default the file's name.
        description: One line for the list of DAGs.
        target: Where trials run.
        schedule: Cron expression, preset such as @daily, or null: only when triggered.
        start_date: First day of the schedule (YYYY-MM-DD).
        retune: What starts a run besides the schedule, and what such a run does.
        pool: Airflow pool of the tasks that use the Spark cluster: it limits how many do at the same time.
        owner, tags: Shown in the list of DAGs.
        on_failure: `module:name` of an Airflow notifier that is told when a task fails.
        retries, retry_delay_s: How often a failed task is tried again, and the first pause.
        execution_timeout_s: The tune task is killed after so long.
        spark: How the Spark application is submitted.
        databricks: How the study runs on Databricks, for that target.
        connections, database: Which connections, and how the database is made ready.
        exports: Base folder or object store URL of the exports.
        top_k: How many trials to export (single objective; otherwise the Pareto front).
    """

    study: str = ""
    description: str = ""
    target: Literal["standalone", "databricks"] = "standalone"
    schedule: str | None = None
    start_date: str | None = None
    retune: RetuneSettings = field(default_factory=RetuneSettings)
    pool: str = "tuning_spark"
    owner: str = "tuning"
    tags: tuple[str, ...] = ()
    on_failure: str | None = None
    retries: int = 2
    retry_delay_s: float = 30.0
    execution_timeout_s: float = DAY_S
    objective: str = "quadratic"
    data: DataSpec | None = None
    directions: tuple[Direction, ...] = ("minimize",)
    search_space: dict[str, ParamSpec] = field(default_factory=dict)
    xgboost: XGBoostSpec | None = None
    sampler: ComponentSpec = DEFAULT_SAMPLER
    pruner: ComponentSpec = DEFAULT_PRUNER
    seed: int | None = None
    trials: int = 100
    tasks: int = 2
    jobs: int = 8
    timeout_s: float | None = None
    distribution: Distribution = "joblib"
    coordination: Coordination = "driver"
    resources: ResourceSpec = field(default_factory=ResourceSpec)
    stop: StopSpec = field(default_factory=StopSpec)
    coordinator: CoordinatorSpec = field(default_factory=CoordinatorSpec)
    enqueue: tuple[dict[str, Any], ...] = ()
    spark: SparkSettings = field(default_factory=SparkSettings)
    databricks: DatabricksSettings = field(default_factory=DatabricksSettings)
    connections: ConnectionIds = field(default_factory=ConnectionIds)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    exports: str | None = None
    top_k: int = 10

    def __post_init__(self) -> None:
        if self.target == "databricks":
            check_databricks(self)
        for name, minimum in (("retries", 0), ("retry_delay_s", 0), ("execution_timeout_s", 1), ("top_k", 1)):
            if getattr(self, name) < minimum:
                raise SpecError(f"{name} must be at least {minimum}, got {getattr(self, name):g}")
        if self.timeout_s is not None and self.timeout_s >= self.execution_timeout_s:
            raise SpecError(
                f"timeout_s must be below execution_timeout_s ({self.execution_timeout_s:g}), else the task is"
                f" killed before it ends by itself; got {self.timeout_s:g}"
            )
        if any(not tag or len(tag) > 100 for tag in self.tags):
            raise SpecError("tags must be texts of 1 to 100 characters")
        if not self.pool:
            raise SpecError("pool must name an Airflow pool, such as default_pool; got an empty text")
        if self.target == "databricks" and self.databricks.database == "driver" and self.retune.rule != "always":
            raise SpecError(
                f"rule {self.retune.rule} needs a database that Airflow reaches: set databricks.database to external,"
                " or rule to always",
                "retune",
            )
        check_retune(self.retune, has_data=self.data is not None, directions=len(self.directions))
        if self.distribution == "local":
            raise SpecError("distribution local is for runs without Spark; use joblib, rdd or dataframe")
        self.first_day()

    def first_day(self) -> datetime.datetime | None:
        """`start_date` as a time zone aware midnight, UTC."""
        if self.start_date is None:
            return None
        try:
            return datetime.datetime.strptime(self.start_date, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
        except ValueError:
            raise SpecError(f"start_date must be a day such as 2026-01-31, got {self.start_date!r}") from None


@dataclass(frozen=True)
class StudyFile:
    """A study file that was read and found right.

    Attributes:
        path: The file.
        document: Its content, normalised: what a form's changes are laid over.
        settings: The same, typed.
    """

    path: Path
    document: dict[str, Any]
    settings: StudySettings

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def dag_id(self) -> str:
        return f"tune_{self.name}"

    def changed(self, changes: Mapping[str, Any]) -> StudyFile:
        """The study with some values replaced, checked again.

        Args:
            changes: New values by dotted key, e.g. {"trials": 10, "xgboost.folds": 5}.

        Raises:
            StudyFileError: A changed value breaks a rule.
        """
        document = copy.deepcopy(self.document)
        for key, value in changes.items():
            section = document
            *parents, last = key.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        return parse_study(self.path, document)

    def to_spec(self, run_id: str) -> TuningSpec:
        """What this study asks a run to do."""
        return to_spec(self.settings, run_id)

    def exports_base(self) -> str:
        """Where exports go: the study file's word, else TUNING_EXPORTS, else `exports` beside the DAG folder."""
        default = os.environ.get("TUNING_EXPORTS") or str(self.path.resolve().parents[2] / "exports")
        return self.settings.exports or default


def read_study(path: Path) -> StudyFile:
    """Read and check a study file.

    Raises:
        StudyFileError: With a message that names the file, the key, the rule and the valid keys.
    """
    try:
        if not _IDENTIFIER.fullmatch(path.stem):
            raise SpecError("the file name may hold letters, digits, '_', '-' and '.' only: it names the DAG")
        document = read_yaml(path)
        if not isinstance(document, dict):
            raise SpecError(f"must hold keys and values, got {describe(document)}")
        document = _normalise(document, path)
    except SpecError as error:
        raise StudyFileError(f"{shown(path)}: {error}") from None
    return parse_study(path, document)


def parse_study(path: Path, document: dict[str, Any]) -> StudyFile:
    """Check a normalised document.

    Raises:
        StudyFileError: As for `read_study`.
    """
    try:
        settings = from_dict(StudySettings, document)
        check_spec(to_spec(settings, "check"))
    except SpecError as error:
        raise StudyFileError(f"{shown(path)}: {error}") from None
    return StudyFile(path, document, settings)


def to_spec(settings: StudySettings, run_id: str) -> TuningSpec:
    """The part of a study that travels to the cluster.

    Raises:
        SpecError: The keys do not fit each other.
    """
    shared = {f.name for f in dataclasses.fields(TuningSpec)} & {f.name for f in dataclasses.fields(StudySettings)}
    values = {name: getattr(settings, name) for name in shared}
    spec = TuningSpec(study_name=settings.study, run_id=run_id, **values)
    return spec.with_changes(search_space=effective_search_space(spec))


def check_spec(spec: TuningSpec) -> None:
    """What can be known wrong before any trial runs.

    Raises:
        SpecError: A parameter XGBoost would ignore; a sampler or pruner that Optuna does not have.
    """
    if spec.objective == "xgboost":
        check_parameters(spec, spec.search_space)
    if spec.sampler != DEFAULT_SAMPLER:
        _check_component(spec, "sampler")
    if spec.pruner != DEFAULT_PRUNER:
        _check_component(spec, "pruner")


def _check_component(spec: TuningSpec, kind: Literal["sampler", "pruner"]) -> None:
    # Optuna takes 0.3 s to import: the DAG processor pays that only for studies that name a sampler or pruner.
    from optuna_spark.samplers import build_pruner, build_sampler

    try:
        if kind == "sampler":
            build_sampler(spec.sampler, spec.seed)
        else:
            build_pruner(spec.pruner, spec.max_steps)
    except SpecError as error:
        # A sampler may need a package, torch for example, that only the Spark side has.
        if not isinstance(error.__cause__, ImportError):
            raise


def _normalise(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Short forms spelled out, relative paths resolved against the study file's folder."""
    document = dict(document)
    valid = [*(f.name for f in dataclasses.fields(StudySettings)), "direction"]
    for key in document:
        if key not in valid:
            raise SpecError(unknown_key(str(key), valid))
    if not document.get("study"):
        document["study"] = path.stem
    if "direction" in document:
        if "directions" in document:
            raise SpecError("give direction for one objective or directions for several, not both")
        document["directions"] = [document.pop("direction")]
    for key in ("sampler", "pruner"):
        if isinstance(document.get(key), str):
            document[key] = {"name": document[key]}
    if document.get("objective") == "xgboost" and document.get("xgboost") is None:
        document["xgboost"] = {}
    _resolve_paths(document, path.parent)
    return document


def _resolve_paths(document: dict[str, Any], folder: Path) -> None:
    data, spark = document.get("data"), document.get("spark")
    if isinstance(data, dict) and isinstance(data.get("path"), str) and data["path"] and data.get("format") != "table":
        document["data"] = {**data, "path": resolve_path(data["path"], folder)}
    if isinstance(spark, dict):
        document["spark"] = dict(spark)
        for key in ("py_files", "archives"):
            if isinstance(spark.get(key), list):
                document["spark"][key] = [resolve_path(p, folder) if isinstance(p, str) else p for p in spark[key]]
    if isinstance(document.get("exports"), str):
        document["exports"] = resolve_path(document["exports"], folder)


def resolve_path(path: str, folder: Path) -> str:
    """A relative path made absolute; URLs, `sklearn:<name>` and absolute paths stay as they are."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        return path
    return str((folder / path).resolve()) if not Path(path).is_absolute() else path


def shown(path: Path) -> str:
    """The file as its author knows it: with the folder it lies in."""
    return "/".join(path.parts[-3:])
