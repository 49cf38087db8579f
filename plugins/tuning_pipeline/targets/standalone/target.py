"""Target standalone: one Spark application by spark-submit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuning_pipeline.study_file.standalone_section import StandaloneSection
from tuning_pipeline.targets.failure_rule import FailureRule

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile


class Standalone(StandaloneSection):
    """A Spark standalone cluster; Airflow's worker and the cluster see the same files."""

    failures: Sequence[FailureRule] = ()

    def steps(self, study: StudyFile) -> list[Any]:
        from tuning_pipeline.targets.standalone import tasks

        return tasks.steps(study, self.data_fingerprint)

    def data_fingerprint(self, study: StudyFile) -> str:
        from tuning_pipeline.retune.fingerprint import data_fingerprint

        return data_fingerprint(study.settings.data)
