"""A run of a study's DAG, as one of its tasks sees it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuning_pipeline.runs.identity import RunIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy

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
