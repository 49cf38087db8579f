"""Tells in a task's log why trials of its run failed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy

    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)

MAX_LINES = 10


def log_failed_trials(tuned: Callable[[], StudyRun], url: sqlalchemy.URL | None = None) -> None:
    """Log the reasons of the run's newest failed trials, the most frequent first.

    It never fails the task, whatever it is: the task may have a failure already, which the reader must see.

    Args:
        tuned: Finds the run.
        url: Where its study is; by default the study's database.
    """
    try:
        reasons = _reasons(tuned(), url)
    except Exception as error:  # noqa: BLE001  # see above
        log.info("The reasons of failed trials cannot be read: %s", type(error).__name__)
        return
    for reason in reasons[:MAX_LINES]:
        log.warning("%s", reason)
    if len(reasons) > MAX_LINES:
        log.warning("%s further reasons are in the run's tab and its report", len(reasons) - MAX_LINES)


def _reasons(run: StudyRun, url: sqlalchemy.URL | None) -> list[str]:
    from optuna_spark.storage.optuna_storage import opened_storage
    from tuning_pipeline.database.run_numbers import run_failures

    with opened_storage(run.storage_url() if url is None else url, prepared=True) as storage:
        return [str(reason) for reason in run_failures(run.study.settings.study, run.key, storage)]
