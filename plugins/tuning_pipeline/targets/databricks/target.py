"""Target databricks: one run of a job in a Databricks workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile


class Databricks:
    """A Databricks workspace; its client library is imported only where a study goes there."""

    def steps(self, study: StudyFile) -> list[Any]:
        from tuning_pipeline.targets.databricks import tasks

        return tasks.steps(study, self.data_fingerprint)

    def data_fingerprint(self, study: StudyFile) -> str:
        from tuning_pipeline.targets.databricks.fingerprint import data_fingerprint

        return data_fingerprint(study)
