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
        TaskError: No run works on the study.
    """
    runs = _in_database(study, by) if study.has_database else _on_cluster(study, by)
    name = study.settings.study
    if not runs:
        raise TaskError(Failure(what=f"no run works on study {name!r} now", next="Nothing: nothing has to end."))
    return (
        f"run {' and '.join(runs)} of study {name} was told to finish: its running trials have"
        f" {study.settings.grace_s:g} s to end, then it exports what it has"
    )


def _in_database(study: StudyFile, by: str) -> list[str]:
    from optuna_spark.storage.optuna_storage import opened_storage

    name = study.settings.study
    with opened_storage(storage_url(database_connection(study.settings.connections.database))) as storage:
        run = working_run(storage.engine, name)
        if run is None:
            return []
        request_finish(name, run.key, by, storage)
    return [str(run)]


def _on_cluster(study: StudyFile, by: str) -> list[str]:
    """The study is a file that a cluster works on: the workspace knows which run does."""
    from tuning_pipeline.targets.databricks.finish_request import finish_live_runs

    return finish_live_runs(study, by)
