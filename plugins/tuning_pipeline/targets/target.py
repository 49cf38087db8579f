"""What a place where trials run has to bring: such a class, in a folder of its own, and a line in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tuning_pipeline.study_file.target_sections import TargetSection

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile
    from tuning_pipeline.targets.failure_rule import FailureRule


class Target(TargetSection, Protocol):
    """A place where trials run; its section says what a study file may say about it.

    Making one is cheap: what only its own studies need, such as a client library, it imports in its methods.

    Attributes:
        failures: How runs there may end badly, beside what the Spark driver itself says; the first that fits counts.
    """

    failures: Sequence[FailureRule]

    def steps(self, study: StudyFile) -> list[Any]:
        """The tasks of a study's DAG, in their order."""

    def data_fingerprint(self, study: StudyFile) -> str:
        """A text that changes when the study's data does, by names, sizes and times, not by reading it.

        Raises:
            TaskError: The data cannot be looked at.
        """
