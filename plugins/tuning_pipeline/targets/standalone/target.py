"""Target standalone: one Spark application by spark-submit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile


class Standalone:
    """A Spark standalone cluster; Airflow's worker and the cluster see the same files."""

    def steps(self, study: StudyFile) -> list[Any]:
        from tuning_pipeline.targets.standalone import tasks

        return tasks.steps(study, self.data_fingerprint)

    def data_fingerprint(self, study: StudyFile) -> str:
        from tuning_pipeline.retune.fingerprint import data_fingerprint

        return data_fingerprint(study.settings.data)
