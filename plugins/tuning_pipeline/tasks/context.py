"""The run of the present task, for tasks of all targets."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import get_current_context

from tuning_pipeline.runs.begin import begin

if TYPE_CHECKING:
    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile

# The time limit of a task that trains nothing.
SHORT_TASK = timedelta(minutes=30)


def run_of(study: StudyFile) -> StudyRun:
    """The run that the present task belongs to."""
    return begin(study, get_current_context())
