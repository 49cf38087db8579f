"""The target standalone: trials run as a Spark application on a standalone cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuning_pipeline.retune.fingerprint import data_fingerprint
from tuning_pipeline.targets.failure_rule import FailureRule
from tuning_pipeline.targets.standalone import tasks

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile


class Standalone:
    """A Spark standalone cluster, which sees the same files as Airflow's worker."""

    failures: Sequence[FailureRule] = ()

    def steps(self, study: StudyFile) -> list[Any]:
        return tasks.steps(study, self.data_fingerprint)

    def data_fingerprint(self, study: StudyFile) -> str:
        return data_fingerprint(study.settings.data)
