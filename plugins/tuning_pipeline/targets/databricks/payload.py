"""Pure functions that build what is sent to Databricks: the run, the job definition and the asset bundle.

No value is a secret. A password is given as {{secrets/<scope>/<key>}}, which Databricks resolves on the cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.study_file.keys.spark import conf_text
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.databricks.keys.settings import ClusterSettings, DatabricksSettings, databricks_settings
from tuning_pipeline.targets.databricks.workspace.paths import RemoteFiles, run_name
from tuning_pipeline.targets.package import gpu_amount

TASK_KEY = "tune"
PASSWORD_VARIABLE = "OPTUNA_STORAGE_PASSWORD"  # noqa: S105  # a name
# Databricks replaces this by the id of the job run, which repairs and retries of the run keep:
# https://docs.databricks.com/en/jobs/dynamic-value-references.html
JOB_RUN_ID = "{{job.run_id}}"


def run_payload(
    study: StudyFile, spec: TuningSpec, files: RemoteFiles, token: str, storage: str | None
) -> dict[str, Any]:
    """The body of POST /api/2.2/jobs/runs/submit.

    Args:
        study: The study, with the changes from the run's form.
        spec: The run.
        files: The paths of its files.
        token: Idempotency token.
        storage: URL of the external database, without its password; None with `database: driver`.
    """
    return {
        "run_name": run_name(spec.study_name, spec.run_id),
        "idempotency_token": token,
        "timeout_seconds": int(study.settings.execution_timeout_s),
        "tasks": [task(study, spec, files, parameters(study, files, storage))],
    }


def job_definition(study: StudyFile, spec: TuningSpec, files: RemoteFiles, storage: str | None) -> dict[str, Any]:
    """The body of POST /api/2.2/jobs/create, with the same task. Each run of the job is a run of the study."""
    given = [*parameters(study, files, storage), "--run-id", JOB_RUN_ID]
    return {
        "name": f"tune {spec.study_name}",
        "max_concurrent_runs": 1,
        "timeout_seconds": int(study.settings.execution_timeout_s),
        "tags": {"study": spec.study_name, **databricks_settings(study.settings).cluster.tags},
        "tasks": [task(study, spec, files, given)],
    }


def bundle(name: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """A Databricks Asset Bundle (databricks.yml) that holds the job."""
    return {
        "bundle": {"name": name},
        "resources": {"jobs": {name: dict(job)}},
        "targets": {"default": {"default": True, "mode": "production"}},
    }


def task(study: StudyFile, spec: TuningSpec, files: RemoteFiles, given: list[str]) -> dict[str, Any]:
    """The only task of a run. `given` are the arguments of its program."""
    settings = databricks_settings(study.settings)
    if settings.existing_cluster_id:
        where: dict[str, Any] = {"existing_cluster_id": settings.existing_cluster_id}
    else:
        where = {"new_cluster": new_cluster(study, spec, files)}
    return {
        "task_key": TASK_KEY,
        "spark_python_task": {"python_file": files.entry, "parameters": given},
        **where,
    }


def parameters(study: StudyFile, files: RemoteFiles, storage: str | None) -> list[str]:
    """The arguments of the job's program."""
    settings = databricks_settings(study.settings)
    given = [files.package, "--spec-file", files.spec, "--output", files.output]
    for path in files.py_files:
        given += ["--py-file", path]
    if files.study_copy:
        given += ["--study-copy", files.study_copy, "--dump-every", f"{settings.dump_every_s:g}"]
    if storage:
        given += ["--storage", storage, "--secret", f"{settings.secret_scope}/{settings.secret_key}"]
    return given


def new_cluster(study: StudyFile, spec: TuningSpec, files: RemoteFiles) -> dict[str, Any]:
    """A cluster for one run, in the form of the clusters API."""
    settings = databricks_settings(study.settings)
    cluster = settings.cluster
    single_node = is_single_node(cluster)
    tags = {**({"ResourceClass": "SingleNode"} if single_node else {}), **cluster.tags}
    optional = {
        "node_type_id": cluster.node_type,
        "driver_node_type_id": cluster.driver_node_type,
        "policy_id": cluster.policy_id,
        "instance_pool_id": cluster.instance_pool_id,
        "driver_instance_pool_id": cluster.driver_instance_pool_id,
        "single_user_name": cluster.single_user,
        "cluster_log_conf": log_conf(cluster.log_destination),
        "custom_tags": tags,
    }
    return {
        "spark_version": cluster.runtime(gpu=spec.resources.gpus_per_task > 0),
        **size(cluster),
        # The dedicated access mode. Others do not allow RDDs, with which we start workers.
        "data_security_mode": "SINGLE_USER",
        "spark_conf": spark_conf(study, spec, single_node),
        "spark_env_vars": environment(settings, spec),
        "init_scripts": [init_script(path) for path in (*files.init_scripts, *cluster.init_scripts)],
        **{key: value for key, value in optional.items() if value},
        **cluster.extra,
    }


def is_single_node(cluster: ClusterSettings) -> bool:
    """Whether the new cluster is one machine, which is driver and worker in one."""
    return cluster.workers == 0 and cluster.autoscale is None


def size(cluster: ClusterSettings) -> dict[str, Any]:
    """The number of worker nodes, fixed or as a range."""
    if cluster.autoscale is None:
        return {"num_workers": cluster.workers}
    return {"autoscale": {"min_workers": cluster.autoscale.min_workers, "max_workers": cluster.autoscale.max_workers}}


def spark_conf(study: StudyFile, spec: TuningSpec, single_node: bool) -> dict[str, str]:
    """Spark properties. Those of `databricks.cluster` win over those of `spark`, and these over derived ones."""
    spark = study.settings.spark
    conf = {"spark.task.cpus": str(spec.resources.cpus_per_task)}
    if spec.resources.gpus_per_task:
        conf["spark.task.resource.gpu.amount"] = gpu_amount(spec)
    if single_node:
        conf |= {"spark.databricks.cluster.profile": "singleNode", "spark.master": "local[*, 4]"}
    if databricks_settings(study.settings).database == "external":
        # The cluster's variables reach every node. Workers do not need the password, so they do not get it.
        conf[f"spark.executorEnv.{PASSWORD_VARIABLE}"] = "-"
    sizes = {
        "spark.executor.cores": spark.executor_cores,
        "spark.executor.memory": spark.executor_memory,
        "spark.driver.memory": spark.driver_memory,
    }
    conf |= {key: str(value) for key, value in sizes.items() if value}
    given = {**spark.conf, **databricks_settings(study.settings).cluster.spark_conf}
    return conf | {key: conf_text(value) for key, value in given.items()}


def environment(settings: DatabricksSettings, spec: TuningSpec) -> dict[str, str]:
    """Environment variables of every node."""
    # cuDF cannot read Databricks' mounts through GPUDirect Storage. device.check_cufile_policy requires this value.
    variables = {**settings.cluster.env, "LIBCUDF_CUFILE_POLICY": "OFF"}
    variables["TUNING_DATABASE"] = settings.database
    if spec.coordination == "database":
        variables["TUNING_DB_CLIENTS"] = "cluster"
    if settings.database == "external":
        variables[PASSWORD_VARIABLE] = f"{{{{secrets/{settings.secret_scope}/{settings.secret_key}}}}}"
    return variables


def init_script(path: str) -> dict[str, Any]:
    """The location of an init script: on a Volume, or in the workspace, where the API omits the leading /Workspace."""
    if path.startswith("/Volumes/"):
        return {"volumes": {"destination": path}}
    return {"workspace": {"destination": path.removeprefix("/Workspace")}}


def log_conf(destination: str | None) -> dict[str, Any] | None:
    """The location of the cluster's logs: a Volume, DBFS or S3."""
    if destination is None:
        return None
    kind = "volumes" if destination.startswith("/Volumes/") else destination.partition(":")[0]
    return {kind: {"destination": destination}}


def idempotency_token(workspace_run: str, attempt: int) -> str:
    """The idempotency token of one attempt: submitted twice, it is one run. Databricks allows 64 characters."""
    return hashlib.sha256(f"{workspace_run}\n{attempt}".encode()).hexdigest()
