"""Target databricks as a study file sees it: what a study must say to run there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_spark.errors import SpecError
from tuning_pipeline.study_file.keys.target_kind import TargetKind
from tuning_pipeline.targets.databricks.keys.settings import ClusterSettings, DatabricksSettings, databricks_settings

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys.study_keys import StudyKeys


class DatabricksKind(TargetKind):
    """Trials run in a Databricks workspace; the study may live there too, as a file on a Volume."""

    implementation = "tuning_pipeline.targets.databricks.target:Databricks"
    title = "Databricks"
    first_task = "upload_job_files"
    settings = DatabricksSettings
    driver_elsewhere = "the driver runs on the Databricks cluster"
    form_sections = ("spark", "databricks.cluster")

    def check(self, keys: StudyKeys) -> None:
        check_databricks(keys)
        if keys.retune.rule != "always" and not self.has_database(keys):
            raise SpecError(
                f"rule {keys.retune.rule} needs a database that Airflow reaches: set databricks.database to external,"
                " or rule to always",
                "retune",
            )

    def offered_sections(self, keys: StudyKeys) -> tuple[str, ...]:
        return () if databricks_settings(keys).existing_cluster_id else self.form_sections

    def has_database(self, keys: StudyKeys) -> bool:
        return databricks_settings(keys).database == "external"

    def kept_file(self, keys: StudyKeys) -> str:
        return "" if self.has_database(keys) else databricks_settings(keys).study_copy(keys.study)

    def runs_folder(self, keys: StudyKeys) -> str:
        return "" if self.has_database(keys) else databricks_settings(keys).runs_folder(keys.study)

    def brings_code(self, keys: StudyKeys) -> bool:
        given = databricks_settings(keys)
        return bool(given.existing_cluster_id or given.cluster.init_scripts or given.cluster.policy_id)


def check_databricks(keys: StudyKeys) -> None:
    """What a study must say to run on Databricks.

    Raises:
        SpecError: A key is missing, or two do not fit each other.
    """
    given = databricks_settings(keys)
    cluster = given.cluster
    if not given.files:
        raise SpecError(
            "databricks.files is required for target databricks: name a folder such as"
            " /Volumes/<catalog>/<schema>/<volume>/tuning"
        )
    if given.database == "driver" and not given.files.startswith("/Volumes/"):
        raise SpecError(
            f"databricks.files must be below /Volumes for database driver, which keeps the study there, got"
            f" {given.files!r}"
        )
    if keys.spark.archives:
        raise SpecError("spark.archives is for target standalone; on Databricks use databricks.cluster.init_scripts")
    if keys.model is not None and keys.model.refit:
        raise SpecError(
            "model.refit is for target standalone so far: on Databricks train the model from best_params.json, and"
            " remove model here"
        )
    _check_connections(keys)
    if given.existing_cluster_id:
        _check_existing(keys, cluster)
        return
    if not (cluster.node_type or cluster.instance_pool_id or cluster.policy_id):
        raise SpecError(
            "databricks.cluster.node_type is required for a new cluster, for example Standard_NC4as_T4_v3 (Azure),"
            " g4dn.xlarge (AWS) or g2-standard-8 (GCP); or give instance_pool_id, or existing_cluster_id"
        )
    if keys.resources.gpus_per_task and cluster.workers == 0 and cluster.autoscale is None:
        raise SpecError(
            "databricks.cluster.workers must be at least 1 with GPUs: Spark schedules none on a single node"
        )


def _check_connections(keys: StudyKeys) -> None:
    """Airflow sends no secret to a workspace: it has its own."""
    way = "give it as {{secrets/<scope>/<key>}}, a secret of the workspace, in"
    if keys.data is not None and keys.data.connection is not None:
        raise SpecError(
            f"data.connection is for target standalone; on Databricks {way} data.format_options, databricks.cluster.env"
            " or databricks.cluster.spark_conf, or read a table of Unity Catalog"
        )
    if keys.tracking is not None:
        raise SpecError("tracking is for target standalone: remove it from a study of target databricks")
    if keys.spark.conf_connection is not None:
        raise SpecError(f"spark.conf_connection is for target standalone; on Databricks {way} spark.conf")


def _check_existing(keys: StudyKeys, cluster: ClusterSettings) -> None:
    if cluster != ClusterSettings():
        raise SpecError("databricks takes cluster or existing_cluster_id, not both; remove one")
    spark = keys.spark
    if spark.conf or spark.executor_cores or spark.executor_memory or spark.driver_memory:
        raise SpecError(
            "spark.conf, executor_cores, executor_memory and driver_memory cannot change a cluster that exists"
            " (databricks.existing_cluster_id); set them there and remove them here"
        )
