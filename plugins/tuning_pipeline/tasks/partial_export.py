"""Exports what a run had finished when its task `tune` fails for good, as a part of that task.

It is no task of its own: that would be a skipped one in every run that succeeds. It makes no asset event, and changes
neither `latest` nor what is published. Since export_best_trials stays undone, the run fails as it would without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tuning_pipeline.failures import Failure
    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)


def is_last_try(context: Context, failure: Failure) -> bool:
    """Whether the task will not be tried again after this failure."""
    ti: Any = context["ti"]
    return not failure.retry or ti.try_number > ti.max_tries


def export_what_finished(run: StudyRun, why: str, open_storage: Callable[[], AbstractContextManager[Any]]) -> None:
    """Export what the run has finished, marked as partial. Its own failure is only logged: the task has one already.

    Args:
        run: The run. The caller holds its study, and nothing of it is at work any more.
        why: Why it failed.
        open_storage: Opens the storage with the study, and gives its URL.
    """
    try:
        from tuning_pipeline.exports.export_run import export_partial

        with open_storage() as url:
            folder = export_partial(run, url, why)
    except Exception as error:  # noqa: BLE001  # whatever it is, the reader must see why the task failed
        log.warning("[tuning] What this run had finished could not be exported: %s", error)
        return
    if folder is None:
        log.info("[tuning] This run has completed no trial, so there is nothing to export")
    else:
        log.info("[tuning] Exported what this run had finished, marked as partial, to %s", folder)
