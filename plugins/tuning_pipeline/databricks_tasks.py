"""The tasks of a study's DAG on Databricks, in their order."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import task

from tuning_pipeline import tasks
from tuning_pipeline.databricks_operator import TuneOnDatabricks
from tuning_pipeline.failures import readable_failures
from tuning_pipeline.study_file import StudySettings

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from tuning_pipeline.study_file import StudyFile


def steps(study: StudyFile) -> list[Any]:
    """The chain: the external database as on standalone, or the study as a file on the Volume."""
    if study.settings.databricks.database == "external":
        return [
            upload_job_files(study),
            tasks.provision_database(study),
            tasks.prepare_study(study),
            tune(study),
            tasks.export_best_trials(study),
        ]
    return [
        upload_job_files(study),
        prepare_study(study),
        tune(study),
        fetch_results(study),
        export_best_trials(study),
    ]


def upload_job_files(study: StudyFile) -> XComArg:
    """Package, scripts, spec and local data to a Volume or the workspace."""

    @task(execution_timeout=tasks.SHORT_TASK)
    @readable_failures
    def upload_job_files() -> dict[str, Any]:
        from tuning_pipeline.databricks_storage import upload_job_files as upload

        run, run_id, _ = tasks.run_of(study)
        return upload(run, run_id)

    return upload_job_files()


def prepare_study(study: StudyFile) -> XComArg:
    """Create, resume or reset the study that is kept on the Volume."""

    @task(execution_timeout=tasks.SHORT_TASK)
    @readable_failures
    def prepare_study() -> dict[str, Any]:
        from tuning_pipeline.databricks_storage import study_file
        from tuning_pipeline.study import prepare_study as prepare

        run, run_id, mode = tasks.run_of(study)
        with study_file(run) as url:
            return prepare(run.to_spec(run_id), url, mode)

    return prepare_study()


def tune(study: StudyFile) -> TuneOnDatabricks:
    """The trials, on a Databricks cluster."""
    limit = timedelta(seconds=study.settings.execution_timeout_s)
    # The pool a study file does not name is the standalone cluster's, which this run does not use.
    pool = study.settings.pool if study.settings.pool != StudySettings().pool else "default_pool"
    return TuneOnDatabricks(task_id="tune", study=study, execution_timeout=limit, pool=pool)


def fetch_results(study: StudyFile) -> XComArg:
    """The study from the Volume to the exports."""

    @task(execution_timeout=tasks.SHORT_TASK)
    @readable_failures
    def fetch_results() -> dict[str, Any]:
        from tuning_pipeline.databricks_storage import fetch_results as fetch

        return fetch(tasks.run_of(study)[0])

    return fetch_results()


def export_best_trials(study: StudyFile) -> XComArg:
    """As on standalone, from what fetch_results brought."""
    from tuning_pipeline.databricks_storage import fetched_study

    return tasks.export_best_trials(study, open_storage=fetched_study)
