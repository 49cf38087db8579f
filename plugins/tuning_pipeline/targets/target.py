"""The Protocol of a target, and how a study finds its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tuning_pipeline.targets.registry import kind_of

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys.target_kind import TargetKind
    from tuning_pipeline.study_file.study_file import StudyFile
    from tuning_pipeline.targets.failure_rule import FailureRule


class Target(Protocol):
    """A place where trials run. What is known of it without its client library stands in its TargetKind.

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


def target_of(study: StudyFile) -> Target:
    """The target of a study. Imports what only studies of that target need."""
    return load_target(kind_of(study.settings))


def load_target(kind: TargetKind) -> Target:
    """The target of a kind."""
    module, _, name = kind.implementation.partition(":")
    target: Target = getattr(importlib.import_module(module), name)()
    return target
