"""Tells in a task's log why trials of its run failed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy

    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)

MAX_LINES = 10


def log_failed_trials(run: StudyRun, url: sqlalchemy.URL) -> None:
    """Log the reasons of the run's newest failed trials, the most frequent first. Never fails the task."""
    from sqlalchemy.exc import SQLAlchemyError

    from optuna_spark.errors import TuningError
    from optuna_spark.storage.optuna_storage import opened_storage
    from tuning_pipeline.database.run_numbers import run_failures

    try:
        with opened_storage(url, prepared=True) as storage:
            reasons = run_failures(run.study.settings.study, run.key, storage)
    except (KeyError, TuningError, SQLAlchemyError) as error:
        log.info("The reasons of failed trials cannot be read: %s", type(error).__name__)
        return
    for reason in reasons[:MAX_LINES]:
        log.warning("%s", reason)
    if len(reasons) > MAX_LINES:
        log.warning("%s further reasons are in the run's tab and its report", len(reasons) - MAX_LINES)
