"""The `databricks` section of a study file: where files go, where MySQL lives, and the cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import describe

VOLUME = re.compile(r"/Volumes/[^/]+/[^/]+/[^/]+(/.*)?")
WORKSPACE = re.compile(r"/Workspace/[^/]+(/.*)?")
# Names of a scope or a key: https://docs.databricks.com/api/workspace/secrets/createscope
_SECRET_NAME = re.compile(r"[A-Za-z0-9_@.-]{1,128}")
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

    min_workers: int
    max_workers: int

    def __post_init__(self) -> None:
        if not 1 <= self.min_workers <= self.max_workers:
            raise SpecError(
                f"min_workers must be at least 1 and not above max_workers, got {self.min_workers} and"
                f" {self.max_workers}"
            )


@dataclass(frozen=True)
class ClusterSettings:
    """A new cluster for each run, in the words of Databricks' clusters API where they differ little.

    Attributes:
        spark_version: Runtime; by default 17.3 LTS ML, the GPU one when resources.gpus_per_task is above 0.
        node_type: Machine type of the workers, in the cloud's words: Standard_NC4as_T4_v3 (Azure), g4dn.xlarge
            (AWS), g2-standard-8 (GCP).
        driver_node_type: Machine type of the driver; by default the workers'.
        workers: How many workers; 0 = a single machine that is driver and worker (CPU only).
        autoscale: Between how many workers the cluster grows and shrinks, instead of `workers`.
        spark_conf: Spark properties; they win over what is derived.
        env: Environment variables; a secret as {{secrets/<scope>/<key>}}.
        tags: Tags on the cluster and its machines.
        policy_id, instance_pool_id, driver_instance_pool_id: As in the workspace.
        single_user: Account the cluster belongs to; by default the one whose token submits the run.
        log_destination: Folder for driver and worker logs: /Volumes/..., dbfs:/... or s3://...
        init_scripts: Further init scripts, as paths in the workspace or on a Volume; they run after ours.
        extra: Further keys of the clusters API, such as aws_attributes.
    """

    spark_version: str | None = None
    node_type: str | None = None
    driver_node_type: str | None = None
    workers: int = 1
    autoscale: AutoscaleSettings | None = None
    spark_conf: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    policy_id: str | None = None
    instance_pool_id: str | None = None
    driver_instance_pool_id: str | None = None
    single_user: str | None = None
    log_destination: str | None = None
    init_scripts: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise SpecError(f"workers must be at least 0, got {self.workers}")
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
    """How a study runs on Databricks.

    Attributes:
        database: driver = MySQL is installed on the cluster's driver, and the study is kept as a file on the
            Volume between runs; external = a MySQL server that Airflow and the cluster both reach.
        files: Folder for code, data and results: /Volumes/<catalog>/<schema>/<volume>[/folder], or, with an
            external database, /Workspace/<folder>.
        scripts: Folder for the entry and init scripts where it must be another one; by default `files`.
        secret_scope, secret_key: Where the workspace keeps the tuning account's password (external database).
        ssl_ca, ssl_cert, ssl_key: Where the cluster has the files for TLS to MySQL that the connection's extra names on
            Airflow's machine, such as /Volumes/...
        cluster: A new cluster for each run.
        existing_cluster_id: A cluster that exists, instead of a new one.
        deferrable: Wait in Airflow's triggerer instead of a worker slot.
        poll_s: Seconds between two looks at the run.
        dump_every_s: How often the study is copied to the Volume while it runs (database driver).
    """

    database: Literal["driver", "external"] = "driver"
    files: str = ""
    scripts: str | None = None
    secret_scope: str = "tuning"  # noqa: S105
    secret_key: str = "database-password"  # noqa: S105  # the name of a secret, not one
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    existing_cluster_id: str | None = None
    deferrable: bool = False
    poll_s: int = 30
    dump_every_s: float = 60.0

    def __post_init__(self) -> None:
        for name, folder in (("files", self.files), ("scripts", self.scripts)):
            if folder and not (VOLUME.fullmatch(folder) or WORKSPACE.fullmatch(folder)):
                raise SpecError(
                    f"{name} must be a folder /Volumes/<catalog>/<schema>/<volume>... or /Workspace/..., got {folder!r}"
                )
        for name in ("secret_scope", "secret_key"):
            if not _SECRET_NAME.fullmatch(getattr(self, name)):
                raise SpecError(f"{name} must be letters, digits and -_.@, got {getattr(self, name)!r}")
        for name in ("ssl_ca", "ssl_cert", "ssl_key"):
            path = getattr(self, name)
            if path is not None and (self.database == "driver" or not path.startswith("/")):
                raise SpecError(f"{name} is for database external, and an absolute path on the cluster, got {path!r}")
        for name in ("poll_s", "dump_every_s"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} must be at least 1, got {getattr(self, name):g}")

    @property
    def folder(self) -> str:
        return self.files.rstrip("/")

    @property
    def scripts_folder(self) -> str:
        return (self.scripts or self.files).rstrip("/")


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
