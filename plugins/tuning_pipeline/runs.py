"""What every task of a run begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuning_pipeline.form import study_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tuning_pipeline.study_file import StudyFile


def begin(study: StudyFile, context: Context) -> StudyFile:
    """The study as this run's form changed it. From here on the task's log shows no connection's secret.

    Raises:
        StudyFileError: The run's conf says what this study's form does not offer, or breaks a rule.
    """
    from tuning_pipeline.connections import mask_connections

    mask_connections(study.settings)
    return study_of_run(study, context["params"], context["dag_run"].conf)
