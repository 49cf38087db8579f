"""The tasks of a study's DAG on Databricks, in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context, task

from tuning_pipeline.failures import readable_failures
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.operator import UPLOAD_TASK, TuneOnDatabricks, own_pool
from tuning_pipeline.tasks import retune
from tuning_pipeline.tasks import steps as tasks
from tuning_pipeline.tasks.context import SHORT_TASK, run_of
from tuning_pipeline.tasks.pool import log_holders

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from tuning_pipeline.study_file.study_file import StudyFile


def steps(study: StudyFile, data_fingerprint: Callable[[StudyFile], str]) -> list[Any]:
    """The chain. With an external database it is that of standalone; otherwise the study is a file on a Volume."""
    trials = tune(study)
    trials >> end_run(study)
    if databricks_settings(study.settings).database == "external":
        return [
            upload_job_files(study),
            tasks.provision_database(study),
            *retune.steps(study, rescore_best_trial, data_fingerprint),
            tasks.prepare_study(study, data_fingerprint=data_fingerprint, pool_tasks=pool_tasks(study)),
            trials,
            tasks.export_best_trials(study),
        ]
    return [
        upload_job_files(study),
        prepare_study(study, data_fingerprint),
        trials,
        fetch_results(study),
        export_best_trials(study),
    ]


def upload_job_files(study: StudyFile) -> XComArg:
    """The task that sends package, scripts, spec and local data to a Volume or the workspace."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def upload_job_files() -> dict[str, Any]:
        from tuning_pipeline.exports.folders.place import check_place
        from tuning_pipeline.targets.databricks.node_check import check_nodes
        from tuning_pipeline.targets.databricks.workspace.upload import upload_job_files as upload

        run = run_of(study)
        check_place(run.study.exports_base())  # what cannot end well should not begin
        check_nodes(run.study, run.spec)
        return upload(run.study, run.key)

    return upload_job_files()


def prepare_study(study: StudyFile, data_fingerprint: Callable[[StudyFile], str]) -> XComArg:
    """The task that creates, resumes or resets the study on the Volume."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def prepare_study() -> dict[str, Any]:
        from tuning_pipeline.database.prepare_study import prepare_study as prepare
        from tuning_pipeline.database.replaced_studies import drop_replaced_in
        from tuning_pipeline.targets.databricks.finish_request import withdraw_finish
        from tuning_pipeline.targets.databricks.workspace.volume_study import study_file

        run = run_of(study)
        withdraw_finish(run.study, run.key)
        with study_file(run.study) as url:
            # Here, because the export works on a copy of the file.
            drop_replaced_in(url, run.study.settings.study, run.study.settings.keep_replaced)
            made = prepare(run.spec, url, run.mode)
            tasks.note_facts(run, url, tasks.known_fingerprint(run.study, data_fingerprint))
        if names := pool_tasks(study):
            log_holders(run.study, names, get_current_context()["ti"])
        return made

    return prepare_study()


def pool_tasks(study: StudyFile) -> tuple[str, ...]:
    """The tasks that use the study's Airflow pool; none if its file names no pool of its own."""
    return ("tune", "rescore_best_trial") if own_pool(study.settings) else ()


def tune(study: StudyFile) -> TuneOnDatabricks:
    """The task that runs the trials."""
    return TuneOnDatabricks(task_id="tune", study=study)


def rescore_best_trial(study: StudyFile) -> TuneOnDatabricks:
    """The task that runs the best trial again, on today's data."""
    from tuning_pipeline.targets.databricks.rescore import RescoreOnDatabricks

    return RescoreOnDatabricks(task_id="rescore_best_trial", study=study)


def end_run(study: StudyFile) -> Any:
    """The task that ends a run which still goes on in the workspace after `tune`.

    A killed `tune` task cancels its run itself. If its process or machine is gone, it cannot; then its next try takes
    the run over. After the last try this task ends the run. It is a teardown, because Airflow runs those even if
    somebody marks the whole DAG run as failed.
    """

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def end_run() -> list[str]:
        from tuning_pipeline.targets.databricks.workspace.runs import end_live_runs
        from tuning_pipeline.targets.databricks.workspace.upload import run_output

        # Nothing was sent to the workspace, so nothing can run there. It may not even be reachable.
        if get_current_context()["ti"].xcom_pull(task_ids=UPLOAD_TASK) is None:
            return []
        run = run_of(study)
        return end_live_runs(run.study, run.key, run_output(run.study, run.key))

    return end_run().as_teardown()


def fetch_results(study: StudyFile) -> XComArg:
    """The task that copies the study from the Volume to the exports folder."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def fetch_results() -> dict[str, Any]:
        from tuning_pipeline.targets.databricks.workspace.volume_study import fetch_results as fetch

        return fetch(run_of(study).study)

    return fetch_results()


def export_best_trials(study: StudyFile) -> XComArg:
    """The export task, which reads the study that fetch_results has copied."""
    from tuning_pipeline.targets.databricks.workspace.volume_study import fetched_study

    return tasks.export_best_trials(study, open_storage=lambda run: fetched_study(run.study))
