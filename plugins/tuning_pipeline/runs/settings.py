"""Keeps a run's settings, so that the run goes on with them even if its study file changes.

`prepare_study` stores the settings in an XCom, and their digest in the study. Somebody who may trigger the DAG can
change the XCom, and an objective with access to the database can change the digest. But neither can change both.
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
    """Store the run's settings for its later tasks. Returns their digest, which belongs into the study."""
    context["ti"].xcom_push(key=SETTINGS, value=run.study.document)
    return settings_digest(run.study.document)


def kept_settings(run: StudyRun, context: Context) -> StudyFile:
    """The study with the settings that prepare_study stored.

    Raises:
        TaskError: The settings do not match their digest, or the study that they name cannot be found.
    """
    document = context["ti"].xcom_pull(task_ids=PREPARE, key=SETTINGS)
    if document is None or settings_digest(run.study.document) == settings_digest(document):
        return run.study  # nothing changed, or (None) an earlier version of this package prepared the run
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
    """Whether the study that these settings name holds their digest for this run."""
    from optuna_spark.storage.optuna_storage import opened_storage

    with opened_storage(run.storage_url()) as storage:
        try:
            return read_runs(str(document.get("study")), storage).own.get(run.key) == settings_digest(document)
        except KeyError:
            return False


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
