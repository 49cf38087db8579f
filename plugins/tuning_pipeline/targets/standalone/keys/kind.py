"""Target standalone as a study file sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_spark.errors import SpecError
from optuna_spark.spec.plain_secrets import SECRET_REFERENCE
from tuning_pipeline.study_file.keys.target_kind import TargetKind

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys.study_keys import StudyKeys


class StandaloneKind(TargetKind):
    """Trials run on a Spark standalone cluster; its driver runs beside the task that waits for it."""

    implementation = "tuning_pipeline.targets.standalone.target:Standalone"
    title = "a Spark standalone cluster"
    first_task = "provision_database"
    runs_on_locked_packages = True
    form_sections = ("spark",)

    def check(self, keys: StudyKeys) -> None:
        _check_references(keys)

    def brings_code(self, keys: StudyKeys) -> bool:
        return bool(_OTHER_PYTHON & set(keys.spark.conf)) or keys.spark.conf_connection is not None


# Spark properties with which workers have another Python, or further modules.
_OTHER_PYTHON = {"spark.pyspark.python", "spark.submit.pyFiles", "spark.archives", "spark.executorEnv.PYTHONPATH"}


def _check_references(keys: StudyKeys) -> None:
    options = keys.data.format_options if keys.data is not None else {}
    for key, value in (*options.items(), *keys.spark.conf.items()):
        if SECRET_REFERENCE.fullmatch(str(value)):
            raise SpecError(
                f"{key} is given as {{{{secrets/...}}}}, which only Databricks resolves: name an Airflow connection"
                " in data.connection or spark.conf_connection"
            )
