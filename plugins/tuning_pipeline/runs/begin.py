"""The first step of every task: find out which run it belongs to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tuning_pipeline.dag.form import mode_of, study_of_run
from tuning_pipeline.runs.identity import identity_of
from tuning_pipeline.runs.settings import kept_settings
from tuning_pipeline.runs.study_run import StudyRun
from tuning_pipeline.runs.types import asked_for, mode_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tuning_pipeline.study_file.study_file import StudyFile


def begin(study: StudyFile, context: Context) -> StudyRun:
    """The run that a task belongs to. Also masks the secrets of connections in the task's log from now on.

    Raises:
        StudyFileError: The run's conf sets a key that the study's form does not offer, or breaks a rule.
    """
    from tuning_pipeline.database.connections import mask_connections

    mask_connections(study.settings)
    run = context["dag_run"]
    changed = study_of_run(study, context["params"], run.conf)
    mode = mode_of({"mode": mode_of_run(run.conf, study.settings.retune.mode)})
    return StudyRun(changed, identity_of(study.settings, context), mode, asked_for(run.run_type))


def prepared(study: StudyFile, context: Context) -> StudyRun:
    """The run of a task that follows prepare_study, with the settings that prepare_study used.

    Raises:
        StudyFileError: As for `begin`.
        TaskError: These settings cannot be found any more.
    """
    run = begin(study, context)
    return replace(run, study=kept_settings(run, context)) if run.study.has_database else run
