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
        study: The study, with the changes from this run's form.
        identity: The run's identity.
        mode: What to do if the study exists already.
        asked_for: Whether somebody asked for this very run. If so, the study's retune rule does not apply.
    """

    study: StudyFile
    identity: RunIdentity
    mode: str
    asked_for: bool

    @property
    def key(self) -> str:
        """The run's id in the engine and in its trials."""
        return self.identity.key

    @property
    def spec(self) -> TuningSpec:
        """The spec that the cluster runs."""
        return self.study.to_spec(self.key)

    def storage_url(self) -> sqlalchemy.URL:
        """Storage URL of the study's database. It holds the password, so never log it."""
        from tuning_pipeline.database.connections import database_connection, storage_url

        return storage_url(database_connection(self.study.settings.connections.database))

    @contextmanager
    def hold_study(self, *, last: bool = False) -> Iterator[None]:
        """Hold the study's lease while the block runs, and after it for the run's next task (see `held_study`).

        Args:
            last: Whether to give the lease back after the block.

        Raises:
            AirflowRescheduleException: Another run works on the study. Airflow runs the task again later.
        """
        # A study in a Databricks driver's database needs no lease: no other run can reach that database.
        if not self.study.has_database:
            yield
            return
        from tuning_pipeline.runs.study_lease import held_study

        with held_study(self.study.settings.study, self.identity, self.storage_url(), last=last):
            yield
