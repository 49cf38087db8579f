"""Tells the run that works on a study to finish early, from a shell."""

from __future__ import annotations

from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.database.finish_marks import request_finish
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.runs.refusal import working_run
from tuning_pipeline.study_file.study_file import StudyFile


def finish(study: StudyFile, by: str) -> str:
    """Ask the run to finish early. Returns the sentence for the person who asked.

    Args:
        study: The study.
        by: Who asks.

    Raises:
        TaskError: No run works on the study, or its database is on a Databricks driver.
    """
    from optuna_spark.storage.optuna_storage import opened_storage

    name = study.settings.study
    if not study.has_database:
        raise TaskError(
            Failure(
                what=f"study {name!r} is in the database of its Databricks driver, which this machine cannot reach",
                next="Set databricks.database to external in the study file, or cancel the run in Airflow:"
                " finished trials are kept.",
            )
        )
    with opened_storage(storage_url(database_connection(study.settings.connections.database))) as storage:
        run = working_run(storage.engine, name)
        if run is None:
            raise TaskError(Failure(what=f"no run works on study {name!r} now", next="Nothing: nothing has to end."))
        request_finish(name, run.key, by, storage)
    return (
        f"run {run} of study {name} was told to finish: its running trials have {study.settings.grace_s:g} s to end,"
        " then it exports what it has"
    )
