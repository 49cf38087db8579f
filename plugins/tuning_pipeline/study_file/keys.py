"""The keys of a study file, typed; what they have to keep between them is in `settings`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna_spark.errors import SpecError
from optuna_spark.spec.sections import (
    ComponentSpec,
    CoordinatorSpec,
    DataSpec,
    ParamSpec,
    ResourceSpec,
    StopSpec,
    XGBoostSpec,
)
from optuna_spark.spec.tuning import Coordination, Direction, Distribution
from tuning_pipeline.study_file.databricks import DatabricksSettings
from tuning_pipeline.study_file.retune import RetuneSettings
from tuning_pipeline.study_file.spark import SparkSettings

DAY_S = 86_400
DEFAULT_SAMPLER = ComponentSpec("TPESampler")
DEFAULT_PRUNER = ComponentSpec("NopPruner")
HOST_PATTERN = re.compile(r"[A-Za-z0-9_.:%/-]{1,255}")  # of an account, in MySQL's notation


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
        host_pattern: Hosts the tuning account may connect from, in MySQL's notation, '%' = any; by default the
            connection's `host_pattern`, else the one machine that the task and Spark's driver run on.
        wait_s: How long to wait for a server that does not answer.
    """

    host_pattern: str | None = None
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        if self.host_pattern is not None and not HOST_PATTERN.fullmatch(self.host_pattern):
            raise SpecError(f"host_pattern must be a host, an address or a pattern with %, got {self.host_pattern!r}")
        if self.wait_s < 0:
            raise SpecError(f"wait_s must be at least 0, got {self.wait_s:g}")


@dataclass(frozen=True)
class FormSettings:
    """What the trigger form of a study offers.

    Attributes:
        fields: Names of its fields beside `mode`; by default all that reach nothing outside the search.
    """

    fields: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StudyKeys:
    """What a study file may say. Keys that it shares with TuningSpec are explained there.

    Attributes:
        study: Name of the Optuna study; by default the file's name.
        description: One line for the list of DAGs.
        target: Where trials run.
        schedule: Cron expression, preset such as @daily, or null: only when triggered.
        start_date: First day of the schedule (YYYY-MM-DD), from its midnight on.
        timezone: Whose clock schedule and start_date mean, such as Europe/Berlin; by default Airflow's
            `[core] default_timezone`.
        retune: What starts a run besides the schedule, and what such a run does.
        pool: Airflow pool of the tasks that use the Spark cluster: it limits how many do at the same time.
        owner, tags: Shown in the list of DAGs.
        on_failure: `module:name` of an Airflow notifier that is told when a task fails.
        retries, retry_delay_s: How often a failed task is tried again, and the first pause.
        execution_timeout_s: The tune task is killed after so long.
        spark: How the Spark application is submitted.
        databricks: How the study runs on Databricks, for that target.
        connections, database: Which connections, and how the database is made ready.
        form: Which of these keys a run's trigger form may change.
        exports: Base folder or object store URL of the exports.
        top_k: How many trials to export (single objective; otherwise the Pareto front).
        keep_replaced: How many of the studies that mode reset replaced are kept beside the study.
        keep_exports: How many runs' exports of the study stay; older ones are removed. None: all.
    """

    study: str = ""
    description: str = ""
    target: Literal["standalone", "databricks"] = "standalone"
    schedule: str | None = None
    start_date: str | None = None
    timezone: str | None = None
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
    form: FormSettings = field(default_factory=FormSettings)
    exports: str | None = None
    top_k: int = 10
    keep_replaced: int = 1
    keep_exports: int | None = None
