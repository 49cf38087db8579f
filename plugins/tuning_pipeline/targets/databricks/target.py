"""The target databricks: trials run as a job run in a Databricks workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuning_pipeline.targets.databricks import tasks
from tuning_pipeline.targets.databricks.failures import RULES
from tuning_pipeline.targets.databricks.fingerprint import data_fingerprint
from tuning_pipeline.targets.failure_rule import FailureRule

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile


class Databricks:
    """A Databricks workspace."""

    failures: Sequence[FailureRule] = RULES

    def steps(self, study: StudyFile) -> list[Any]:
        return tasks.steps(study, self.data_fingerprint)

    def data_fingerprint(self, study: StudyFile) -> str:
        return data_fingerprint(study)
