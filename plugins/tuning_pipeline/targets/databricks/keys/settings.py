"""The `databricks` section of a study file: where files go, where MySQL lives, and the cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import describe
from optuna_spark.spec.form_fields import CLUSTER
from optuna_spark.spec.key import DAY_S, REQUIRED, Field, Reach, check_limits, key

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys.study_keys import StudyKeys

NAME = "databricks"  # of the target, and so of its section
VOLUME = re.compile(r"/Volumes/[^/]+/[^/]+/[^/]+(/.*)?")
WORKSPACE = re.compile(r"/Workspace/[^/]+(/.*)?")
# Names of a scope or a key: https://docs.databricks.com/api/workspace/secrets/createscope
_SCOPE = "[A-Za-z0-9_@.-]{1,128}"
_A_SCOPE = "be letters, digits and -_.@"
_MAX_WORKERS = 10_000
# Set by the job itself; see targets/databricks/payload.py.
OWN_VARIABLES = ("OPTUNA_STORAGE_URL", "OPTUNA_STORAGE_PASSWORD", "LIBCUDF_CUFILE_POLICY")
OWN_KEYS = {
    "spark_version", "node_type_id", "driver_node_type_id", "num_workers", "autoscale", "spark_conf", "spark_env_vars",
    "custom_tags", "policy_id", "instance_pool_id", "driver_instance_pool_id", "single_user_name", "init_scripts",
    "data_security_mode", "cluster_log_conf",
}  # fmt: skip
_LTS = "17.3.x"


@dataclass(frozen=True)
class AutoscaleSettings:
    """Fewest and most workers of a cluster that grows with its load."""

    min_workers: int = key(REQUIRED, "Fewest workers.", maximum=_MAX_WORKERS)
    max_workers: int = key(REQUIRED, "Most workers.", maximum=_MAX_WORKERS)

    def __post_init__(self) -> None:
        if not 1 <= self.min_workers <= self.max_workers:
            raise SpecError(
                f"min_workers must be at least 1 and not above max_workers, got {self.min_workers} and"
                f" {self.max_workers}"
            )
        check_limits(self)


@dataclass(frozen=True)
class ClusterSettings:
    """A new cluster for each run, in the words of Databricks' clusters API where they differ little."""

    spark_version: str | None = key(
        None, "Runtime. null: 17.3 LTS ML, the GPU one when resources.gpus_per_task is above 0."
    )
    node_type: str | None = key(
        None,
        "Machine type of the workers, in the cloud's words: Standard_NC4as_T4_v3 (Azure), g4dn.xlarge (AWS),"
        " g2-standard-8 (GCP). null: the instance pool's or policy's.",
        field=Field(Reach.MACHINES, CLUSTER, "node_type", schema={"pattern": "^[A-Za-z0-9_.-]{1,100}$"}),
    )
    driver_node_type: str | None = key(None, "Machine type of the driver. null: the workers'.")
    workers: int = key(
        1,
        "Workers of the new cluster; 0: a single machine, driver and worker in one (CPU). Not used with autoscale.",
        minimum=0,
        maximum=_MAX_WORKERS,
        field=Field(Reach.MACHINES, CLUSTER, "workers"),
    )
    autoscale: AutoscaleSettings | None = key(
        None, "Between how many workers the cluster grows and shrinks, such as {min_workers: 1, max_workers: 4}."
    )
    spark_conf: dict[str, Any] = key(None, "Spark properties; they win over what is derived.", make=dict)
    env: dict[str, str] = key(
        None, "Environment variables. A secret, here or in spark_conf, as {{secrets/<scope>/<key>}}.", make=dict
    )
    tags: dict[str, str] = key(None, "Tags on the cluster and its machines.", make=dict)
    policy_id: str | None = key(None, "Cluster policy, as in the workspace.")
    instance_pool_id: str | None = key(None, "Instance pool of the workers, as in the workspace.")
    driver_instance_pool_id: str | None = key(None, "Instance pool of the driver, as in the workspace.")
    single_user: str | None = key(None, "Account the cluster belongs to. null: the one whose token submits the run.")
    log_destination: str | None = key(None, "Folder for driver and worker logs: /Volumes/..., dbfs:/... or s3://...")
    init_scripts: tuple[str, ...] = key(
        (), "Further init scripts, as paths in the workspace or on a Volume; they run after ours."
    )
    extra: dict[str, Any] = key(None, "Further keys of the clusters API, such as aws_attributes.", make=dict)

    def __post_init__(self) -> None:
        check_limits(self)
        for name in self.extra:
            if name in OWN_KEYS:
                raise SpecError(f"extra must not hold {name}: it has a key of its own or is derived")
        for name, value in self.env.items():
            _check_variable(name, value)
        for name, value in self.spark_conf.items():
            _check_conf(name, value)
        if self.log_destination and not self.log_destination.startswith(("/Volumes/", "dbfs:/", "s3://")):
            raise SpecError(f"log_destination must start with /Volumes/, dbfs:/ or s3://, got {self.log_destination!r}")
        for script in self.init_scripts:
            if not script.startswith(("/Volumes/", "/Workspace/")):
                raise SpecError(f"init_scripts must be paths below /Volumes or /Workspace, got {script!r}")

    def runtime(self, gpu: bool) -> str:
        """The runtime, as the clusters API names it."""
        return self.spark_version or f"{_LTS}-{'gpu' if gpu else 'cpu'}-ml-scala2.13"


@dataclass(frozen=True)
class DatabricksSettings:
    """How a study runs on Databricks."""

    database: Literal["driver", "external"] = key(
        "driver",
        "driver: MySQL is installed on the cluster's driver, and the study is kept as a file on the Volume between"
        " runs. external: a MySQL server that Airflow and the cluster both reach.",
    )
    files: str = key(
        "",
        "Folder for code, data and results: /Volumes/<catalog>/<schema>/<volume>[/folder], or, with an external"
        " database, /Workspace/<folder>.",
    )
    scripts: str | None = key(None, "Another folder for the entry and init scripts. null: files.")
    secret_scope: str = key(
        "tuning",
        "Database external: the scope of the workspace that keeps the tuning account's password.",
        pattern=_SCOPE,
        must=_A_SCOPE,
    )
    secret_key: str = key(
        "database-password",
        "Database external: the password's key in that scope.",
        pattern=_SCOPE,
        must=_A_SCOPE,
    )
    ssl_ca: str | None = key(
        None, "Database external over TLS: where the cluster has the file of the connection's ssl_ca, /Volumes/..."
    )
    ssl_cert: str | None = key(None, "The same for ssl_cert.")
    ssl_key: str | None = key(None, "The same for ssl_key.")
    cluster: ClusterSettings = key(ClusterSettings(), "A new cluster for each run.")
    existing_cluster_id: str | None = key(None, "A cluster that exists, instead of a new one.")
    deferrable: bool = key(False, "Wait in Airflow's triggerer instead of a worker slot.")
    poll_s: int = key(30, "Seconds between two looks at the run.", minimum=1, maximum=3_600)
    dump_every_s: float = key(
        60.0,
        "Database driver: seconds between two copies of the study to the Volume while it runs.",
        minimum=1,
        maximum=DAY_S,
    )

    def __post_init__(self) -> None:
        for name, folder in (("files", self.files), ("scripts", self.scripts)):
            if folder and not (VOLUME.fullmatch(folder) or WORKSPACE.fullmatch(folder)):
                raise SpecError(
                    f"{name} must be a folder /Volumes/<catalog>/<schema>/<volume>... or /Workspace/..., got {folder!r}"
                )
        for name in ("ssl_ca", "ssl_cert", "ssl_key"):
            path = getattr(self, name)
            if path is not None and (self.database == "driver" or not path.startswith("/")):
                raise SpecError(f"{name} is for database external, and an absolute path on the cluster, got {path!r}")
        check_limits(self)

    @property
    def folder(self) -> str:
        return self.files.rstrip("/")

    @property
    def scripts_folder(self) -> str:
        return (self.scripts or self.files).rstrip("/")

    def study_copy(self, study_name: str) -> str:
        """The file that holds the study between two runs, with `database: driver`."""
        return f"{self.folder}/studies/{study_name}/study.db"

    def runs_folder(self, study_name: str) -> str:
        """The folder in which each run of a study has its own."""
        return f"{self.folder}/runs/{study_name}"


def _check_variable(name: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise SpecError(f"env names are letters, digits and _, got {name!r}")
    if name in OWN_VARIABLES:
        raise SpecError(f"env must not hold {name}: the job sets it")


def _check_conf(name: str, value: object) -> None:
    if not name.startswith("spark."):
        raise SpecError(f"spark_conf keys start with 'spark.', got {name!r}")
    if name in ("spark.task.cpus", "spark.task.resource.gpu.amount"):
        raise SpecError(f"spark_conf key {name} is set by resources; remove it here")
    if not isinstance(value, bool | int | float | str):
        raise SpecError(f"spark_conf value of {name} must be a text, a number or true/false, got {describe(value)}")


def databricks_settings(keys: StudyKeys) -> DatabricksSettings:
    """The section of a study."""
    settings: DatabricksSettings = keys.target_sections.get(NAME, DatabricksSettings())
    return settings
