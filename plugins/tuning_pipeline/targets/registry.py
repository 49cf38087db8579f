"""The registry of targets, by the name that a study file uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuning_pipeline.targets.databricks.target import Databricks
from tuning_pipeline.targets.standalone.target import Standalone

if TYPE_CHECKING:
    from tuning_pipeline.study_file.study_file import StudyFile
    from tuning_pipeline.targets.target import Target

TARGETS: Mapping[str, Target] = {"standalone": Standalone(), "databricks": Databricks()}


def target_of(study: StudyFile) -> Target:
    """The target of a study."""
    return TARGETS[study.settings.target]
