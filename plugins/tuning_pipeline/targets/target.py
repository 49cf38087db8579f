"""The Protocol of a target. A new target is a class like this in a folder of its own, and a line in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tuning_pipeline.study_file.target_sections import TargetSection

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile
    from tuning_pipeline.targets.failure_rule import FailureRule


class Target(TargetSection, Protocol):
    """A place where trials run. As a TargetSection, it also knows its part of a study file.

    All targets are made whenever a DAG file is parsed. So a target must import what only its own studies need, such as
    a client library, in its methods.

    Attributes:
        failures: Rules for failures that Spark's driver does not report itself. The first one that fits counts.
    """

    failures: Sequence[FailureRule]

    def steps(self, study: StudyFile) -> list[Any]:
        """Make the tasks of a study's DAG, in their order."""

    def data_fingerprint(self, study: StudyFile) -> str:
        """A text that changes with the study's data. It is made from names, sizes and times; no content is read.

        Raises:
            TaskError: The data cannot be listed.
        """
