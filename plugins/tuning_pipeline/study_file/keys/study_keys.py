"""The keys of a study file, typed; what they have to keep between them is in `settings`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optuna_spark.spec.form_fields import EXPORT, plain
from optuna_spark.spec.key import DAY_S, Group, check_limits, key
from optuna_spark.spec.run_keys import RunKeys
from tuning_pipeline.study_file.keys.retune import RetuneSettings
from tuning_pipeline.study_file.keys.spark import SparkSettings

HOST_PATTERN = r"[A-Za-z0-9_.:%/-]{1,255}"  # of an account, in MySQL's notation


@dataclass(frozen=True)
class ConnectionIds:
    """Airflow connection ids."""

    database: str = key("tuning_db", "The tuning account: what the run uses.")
    admin: str = key(
        "tuning_db_admin",
        "An account that may create databases and accounts; without it the database must be there already.",
    )
    spark: str = key("tuning_spark", "The Spark master.")
    databricks: str = key("tuning_databricks", "The Databricks workspace.")


@dataclass(frozen=True)
class DatabaseSettings:
    """How the study's database is made ready."""

    host_pattern: str | None = key(
        None,
        "Hosts the tuning account may connect from, in MySQL's notation: '10.0.0.%'. null: the connection's"
        " host_pattern, else the one machine that the task and Spark's driver run on.",
        pattern=HOST_PATTERN,
        must="be a host, an address or a pattern with %",
    )
    wait_s: float = key(60.0, "Seconds to wait for a server that does not answer.", minimum=0, maximum=DAY_S)

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class FormSettings:
    """What the trigger form of a study offers."""

    fields: tuple[str, ...] | None = key(
        None,
        "Names of the form's fields beside mode, such as [trials, seed, data_path]. null: all those whose values can"
        " name no file, address, Spark property, machine or secret. docs/study_file.md: what listing another means.",
    )


@dataclass(frozen=True, kw_only=True)
class StudyKeys(RunKeys):
    """What a study file may say."""

    study: str = key("", "Name of the Optuna study. Empty: the file's name.", group=Group.AIRFLOW)
    description: str = key("", "One line for the list of DAGs.", group=Group.AIRFLOW)
    target: str = key("standalone", "Where trials run:", group=Group.AIRFLOW)
    schedule: str | None = key(
        None, 'Cron expression ("0 3 * * 1"), preset ("@weekly"), or null: only when triggered.', group=Group.AIRFLOW
    )
    start_date: str | None = key(
        None, "First day of the schedule, such as 2026-01-31, from its midnight on.", group=Group.AIRFLOW
    )
    timezone: str | None = key(
        None,
        "Whose clock schedule and start_date mean, such as Europe/Berlin. null: Airflow's [core] default_timezone.",
        group=Group.AIRFLOW,
    )
    retune: RetuneSettings = key(
        RetuneSettings(), "What starts a run besides the schedule, and what such a run does.", group=Group.AIRFLOW
    )
    pool: str = key(
        "tuning_spark",
        "Airflow pool of the tasks that use the cluster; its slots limit how many do at the same time.",
        group=Group.AIRFLOW,
    )
    owner: str = key("tuning", "Shown in the list of DAGs.", group=Group.AIRFLOW)
    tags: tuple[str, ...] = key((), "Shown in the list of DAGs, which can be filtered by them.", group=Group.AIRFLOW)
    on_failure: str | None = key(
        None,
        "module:name of an Airflow notifier in plugins/ that is told when a task has failed for good.",
        group=Group.AIRFLOW,
    )
    # A run may take (retries + 1) * execution_timeout_s, which is still a time on the calendar.
    retries: int = key(2, "How often a failed task is tried again.", minimum=0, maximum=100, group=Group.AIRFLOW)
    retry_delay_s: float = key(
        30.0,
        "Seconds before the first retry; the pause doubles each time.",
        minimum=0,
        maximum=DAY_S,
        group=Group.AIRFLOW,
    )
    execution_timeout_s: float = key(
        float(DAY_S),
        "Seconds after which the tune task is killed.",
        minimum=1,
        maximum=100_000_000,
        group=Group.AIRFLOW,
    )
    spark: SparkSettings = key(SparkSettings(), "How the Spark application is submitted.", group=Group.RUNS)
    target_sections: dict[str, Any] = key(
        None, "How the study runs on a target, by its name.", make=dict, group=Group.RUNS
    )
    connections: ConnectionIds = key(ConnectionIds(), "Ids of the Airflow connections.", group=Group.RUNS)
    database: DatabaseSettings = key(DatabaseSettings(), "How the study's database is made ready.", group=Group.RUNS)
    form: FormSettings = key(FormSettings(), "What a run's trigger form may change.", group=Group.CHANGED)
    exports: str | None = key(
        None,
        "Folder or object store URL of the exports; where tasks run on several machines (Celery, Kubernetes) a folder"
        " that all of them share is written file:///folder. null: TUNING_EXPORTS, else exports/ beside dags/.",
        group=Group.EXPORTED,
    )
    top_k: int = key(
        10,
        "Trials in the exported tables (the Pareto front for several directions).",
        minimum=1,
        maximum=1_000_000,
        field=plain(EXPORT),
        group=Group.EXPORTED,
    )
    keep_replaced: int = key(
        1,
        "So many of the studies that mode reset replaced are kept, as <study>.replaced-<time>.",
        minimum=0,
        maximum=10_000,
        group=Group.EXPORTED,
    )
    keep_exports: int | None = key(
        None,
        "How many runs' exports stay; older ones are removed, but never the one that latest leads to or that was"
        " published last. null: all.",
        minimum=1,
        maximum=1_000_000,
        group=Group.EXPORTED,
    )
    shared_script: bool = key(
        False,
        "true: reports load Plotly's script from one file beside all exports, instead of holding 5 MB of it each. Such"
        " a report shows no plots where it is sent alone.",
        group=Group.EXPORTED,
    )
