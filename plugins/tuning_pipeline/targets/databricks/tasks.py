"""The tasks of a study's DAG on Databricks, in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context, task

from tuning_pipeline.failures import readable_failures
from tuning_pipeline.targets.databricks.operator import UPLOAD_TASK, TuneOnDatabricks
from tuning_pipeline.tasks import retune
from tuning_pipeline.tasks import steps as tasks
from tuning_pipeline.tasks.context import SHORT_TASK, run_of

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from tuning_pipeline.study_file.study_file import StudyFile


def steps(study: StudyFile, data_fingerprint: Callable[[StudyFile], str]) -> list[Any]:
    """The chain: the external database as on standalone, or the study as a file on the Volume."""
    trials = tune(study)
    trials >> end_run(study)
    if study.settings.databricks.database == "external":
        return [
            upload_job_files(study),
            tasks.provision_database(study),
            *retune.steps(study, rescore_best_trial, data_fingerprint),
            tasks.prepare_study(study),
            trials,
            tasks.export_best_trials(study),
        ]
    return [
        upload_job_files(study),
        prepare_study(study),
        trials,
        fetch_results(study),
        export_best_trials(study),
    ]


def upload_job_files(study: StudyFile) -> XComArg:
    """Package, scripts, spec and local data to a Volume or the workspace."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def upload_job_files() -> dict[str, Any]:
        from tuning_pipeline.targets.databricks.upload import upload_job_files as upload

        run = run_of(study)
        return upload(run.study, run.key)

    return upload_job_files()


def prepare_study(study: StudyFile) -> XComArg:
    """Create, resume or reset the study that is kept on the Volume."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def prepare_study() -> dict[str, Any]:
        from tuning_pipeline.database.prepare_study import prepare_study as prepare
        from tuning_pipeline.database.replaced_studies import drop_replaced_in
        from tuning_pipeline.targets.databricks.volume_study import study_file

        run = run_of(study)
        with study_file(run.study) as url:
            drop_replaced_in(url, run.study.settings.study, run.study.settings.keep_replaced)
            return prepare(run.spec, url, run.mode)

    return prepare_study()


def tune(study: StudyFile) -> TuneOnDatabricks:
    """The trials, on a Databricks cluster."""
    return TuneOnDatabricks(task_id="tune", study=study)


def rescore_best_trial(study: StudyFile) -> TuneOnDatabricks:
    """The best trial once more, on today's data."""
    from tuning_pipeline.targets.databricks.rescore import RescoreOnDatabricks

    return RescoreOnDatabricks(task_id="rescore_best_trial", study=study)


def end_run(study: StudyFile) -> Any:
    """Nothing goes on in the workspace when `tune` is over, however it ended.

    A killed task cancels its run itself. One that had no time for it, because its process or its machine was gone,
    leaves the run to its next try; after the last try this is who ends it. Airflow runs a teardown even where
    somebody marks the whole DAG run as failed.
    """

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def end_run() -> list[str]:
        from tuning_pipeline.targets.databricks.runs import end_live_runs
        from tuning_pipeline.targets.databricks.upload import run_output

        if get_current_context()["ti"].xcom_pull(task_ids=UPLOAD_TASK) is None:
            return []
        run = run_of(study)
        return end_live_runs(run.study, run.key, run_output(run.study, run.key))

    return end_run().as_teardown()


def fetch_results(study: StudyFile) -> XComArg:
    """The study from the Volume to the exports."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def fetch_results() -> dict[str, Any]:
        from tuning_pipeline.targets.databricks.volume_study import fetch_results as fetch

        return fetch(run_of(study).study)

    return fetch_results()


def export_best_trials(study: StudyFile) -> XComArg:
    """As on standalone, from what fetch_results brought."""
    from tuning_pipeline.targets.databricks.volume_study import fetched_study

    return tasks.export_best_trials(study, open_storage=lambda run: fetched_study(run.study))
