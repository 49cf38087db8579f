"""Every target there is, by the word that a study file uses for it."""

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
    """Where the study's trials run."""
    return TARGETS[study.settings.target]
