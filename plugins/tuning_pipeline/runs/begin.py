"""What every task of a run begins with."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuning_pipeline.dag.form import mode_of, study_of_run
from tuning_pipeline.runs.identity import RunIdentity, identity_of
from tuning_pipeline.runs.types import asked_for, mode_of_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy
    from airflow.sdk import Context

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.study_file.study_file import StudyFile


@dataclass(frozen=True)
class StudyRun:
    """A run of a study's DAG, as one of its tasks sees it.

    Attributes:
        study: The study as this run's form changed it.
        identity: Which run.
        mode: What to do with a study that exists.
        asked_for: Whether somebody asked for this very run, so that the study's rule has no say.
    """

    study: StudyFile
    identity: RunIdentity
    mode: str
    asked_for: bool

    @property
    def key(self) -> str:
        """What the engine knows the run by."""
        return self.identity.key

    @property
    def spec(self) -> TuningSpec:
        """What the run asks of the cluster."""
        return self.study.to_spec(self.key)

    def storage_url(self) -> sqlalchemy.URL:
        """Storage URL of the study's database, password and all: never log it."""
        from tuning_pipeline.database.connections import database_connection, storage_url

        return storage_url(database_connection(self.study.settings.connections.database))

    @contextmanager
    def hold_study(self, *, last: bool = False) -> Iterator[None]:
        """Hold the study while the block runs, and after it for the run's next task.

        A study that lives on a Databricks driver has no database that another run could reach meanwhile.

        Raises:
            AirflowRescheduleException: Another run works on it; the task is to come again.
        """
        if not self.study.has_database:
            yield
            return
        from tuning_pipeline.runs.study_lease import held_study

        with held_study(self.study.settings.study, self.identity, self.storage_url(), last=last):
            yield


def begin(study: StudyFile, context: Context) -> StudyRun:
    """The run that a task belongs to. From here on the task's log shows no connection's secret.

    Raises:
        StudyFileError: The run's conf says what this study's form does not offer, or breaks a rule.
    """
    from tuning_pipeline.database.connections import mask_connections

    mask_connections(study.settings)
    run = context["dag_run"]
    changed = study_of_run(study, context["params"], run.conf)
    mode = mode_of({"mode": mode_of_run(run.conf, study.settings.retune.mode)})
    return StudyRun(changed, identity_of(study.settings, context), mode, asked_for(run.run_type))


def prepared(study: StudyFile, context: Context) -> StudyRun:
    """The run of a task that stands behind prepare_study: with the settings that its study was prepared with.

    Raises:
        StudyFileError: As for `begin`.
        TaskError: Those settings cannot be found any more.
    """
    from tuning_pipeline.runs.settings import kept_settings

    run = begin(study, context)
    return replace(run, study=kept_settings(run, context)) if run.study.has_database else run
