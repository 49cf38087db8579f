"""The DAGs of a folder of study files, for a DAG file of two lines.

# Airflow reads files that hold the words airflow and dag.
from tuning_pipeline.dags import tuning_dags
tuning_dags("/opt/airflow/dags/studies")
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, chain

from tuning_pipeline.dag.form import form_params
from tuning_pipeline.dag.misread import misread
from tuning_pipeline.dag.notify import load_notifier
from tuning_pipeline.dag.schedule import dag_schedule, first_moment
from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.dag.study_doc import study_doc
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError
from tuning_pipeline.targets.target import target_of

HOUR_S = 3600


def tuning_dags(folder: str | Path) -> list[DAG]:
    """Make a DAG of every good study file in a folder; Airflow registers them by itself.

    Broken files are left out, since an error here would take the good ones away: `report_broken_studies`, in
    a DAG file of its own, shows them among Airflow's import errors.

    Args:
        folder: The folder; relative to the working directory, so better absolute.
    """
    return [tuning_dag(study) for study in read_studies(Path(folder)).studies]


def report_broken_studies(folder: str | Path) -> None:
    """Raise what is wrong with the study files of a folder, for a DAG file that holds nothing else.

    Raises:
        StudyFileError: One line for each broken file, and for code beside them that Airflow takes for DAG files.
    """
    found = read_studies(Path(folder))
    if errors := [*found.errors, *misread(Path(folder), found.studies)]:
        raise StudyFileError("\n".join(errors))


def tuning_dag(study: StudyFile) -> DAG:
    """The DAG of one study file."""
    settings = study.settings
    long_tasks = 2 if settings.model is not None and settings.model.refit else 1
    with DAG(
        study.dag_id,
        description=settings.description or f"Tune study {settings.study}",
        doc_md=study_doc(study),
        schedule=dag_schedule(settings),
        start_date=first_moment(settings),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(seconds=long_tasks * (settings.retries + 1) * settings.execution_timeout_s + HOUR_S),
        tags={"tuning", settings.objective, *settings.tags},
        params=form_params(study),
        default_args={
            "owner": settings.owner,
            "on_failure_callback": load_notifier(settings.on_failure),
            "retries": settings.retries,
            "retry_delay": timedelta(seconds=settings.retry_delay_s),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=10),
        },
    ) as dag:
        chain(*target_of(study).steps(study))
    return dag
