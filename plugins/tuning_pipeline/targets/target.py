"""What a place where trials run has to bring: such a class, in a folder of its own, and a line in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile


class Target(Protocol):
    """A place where trials run.

    Making one is cheap: what only its own studies need, such as a client library, it imports in its methods.
    """

    def steps(self, study: StudyFile) -> list[Any]:
        """The tasks of a study's DAG, in their order."""

    def data_fingerprint(self, study: StudyFile) -> str:
        """A text that changes when the study's data does, by names, sizes and times, not by reading it.

        Raises:
            TaskError: The data cannot be looked at.
        """
