"""Writes to MLflow what it lacks of a study, from a shell."""

from __future__ import annotations

from optuna_spark.storage.optuna_storage import opened_storage
from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.runs.refusal import refuse_while_held
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.tracking.catch_up import mirror_study


def mlflow_sync(study: StudyFile) -> str:
    """Mirror all runs of a study. Returns the sentence for the person who asked.

    Raises:
        TaskError: The study file names no MLflow server, the study does not exist, a run works on it, or trials are
            still missing.
    """
    name = study.settings.study
    if study.settings.tracking is None:
        raise TaskError(
            Failure(
                what=f"study {name!r} is not mirrored in MLflow",
                next="Add tracking: {mlflow: <Airflow connection>} to its file.",
            )
        )
    url = storage_url(database_connection(study.settings.connections.database))
    with opened_storage(url) as storage:
        refuse_while_held(storage.engine, name)  # the run's own mirror writes the same trials
    try:
        caught = mirror_study(study.to_spec("sync"), url)
    except KeyError:
        raise TaskError(Failure(what=f"the database has no study {name!r} yet", next="Run it first.")) from None
    if caught.problem:
        raise TaskError(
            Failure(
                what=f"MLflow lacks {caught.missing} trials of study {name!r} still: {caught.problem}",
                next="See whether its server is up and takes the login, then run this again.",
            )
        )
    return f"MLflow has the {caught.there} trials of study {name}; {caught.written} were written now"
