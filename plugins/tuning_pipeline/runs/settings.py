"""The settings that a run goes on with, although its study file changes while it runs.

`prepare_study` leaves them in an XCom, and their digest in the study. One who may only trigger the DAG can write the
first and an objective that knows the database can write the second; neither can write both.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tuning_pipeline.database.study_runs import read_runs, settings_digest
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError, parse_study

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)

PREPARE = "prepare_study"
SETTINGS = "settings"


def keep_settings(run: StudyRun, context: Context) -> str:
    """Leave the run's settings for its later tasks. Returns their digest, for the study."""
    context["ti"].xcom_push(key=SETTINGS, value=run.study.document)
    return settings_digest(run.study.document)


def kept_settings(run: StudyRun, context: Context) -> StudyFile:
    """The study with the settings that it was prepared with.

    Raises:
        TaskError: They are not what prepare_study noted, or the study they name cannot be found.
    """
    document = context["ti"].xcom_pull(task_ids=PREPARE, key=SETTINGS)
    if document is None or settings_digest(run.study.document) == settings_digest(document):
        return run.study  # the first: a run that an earlier version prepared
    if not isinstance(document, dict) or not _is_noted(run, document):
        raise _lost(run)
    try:
        kept = parse_study(run.study.path, document)
    except StudyFileError as error:
        raise _lost(run) from error
    log.warning(
        "The study file has changed (%s) since this run prepared its study: the run goes on with the settings it"
        " started with. Clear %s to take the new ones.", ", ".join(_changed(run.study.document, document)), PREPARE,
    )  # fmt: skip
    return kept


def _is_noted(run: StudyRun, document: dict[str, Any]) -> bool:
    """Whether the study that these settings name knows them as this run's."""
    from optuna_spark.storage.optuna_storage import close_storage, create_storage

    storage = create_storage(run.storage_url())
    try:
        return read_runs(str(document.get("study")), storage).own.get(run.key) == settings_digest(document)
    except KeyError:
        return False
    finally:
        close_storage(storage)


def _changed(now: dict[str, Any], then: dict[str, Any]) -> list[str]:
    return sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))


def _lost(run: StudyRun) -> TaskError:
    return TaskError(
        Failure(
            what=f"{run.study.path.name} has changed since this run prepared its study, and the settings the run"
            " started with cannot be found any more",
            why="the XCom of prepare_study was changed, the study was reset or deleted, or the database is another",
            next=f"Clear {PREPARE} and what follows it to go on with the file as it is now.",
        )
    )
