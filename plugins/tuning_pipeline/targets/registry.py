"""Every target there is, by the name that a study file uses. A new one is a folder beside this file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from optuna_spark.errors import SpecError
from tuning_pipeline.study_file.keys.target_kind import TargetKind
from tuning_pipeline.targets.databricks.keys.kind import DatabricksKind
from tuning_pipeline.targets.standalone.keys.kind import StandaloneKind

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys.study_keys import StudyKeys

KINDS: Mapping[str, TargetKind] = {"standalone": StandaloneKind(), "databricks": DatabricksKind()}


def kind_of(keys: StudyKeys) -> TargetKind:
    """What is known of a study's target.

    Raises:
        SpecError: There is no target of that name.
    """
    if keys.target not in KINDS:
        raise SpecError(f"must be one of {', '.join(KINDS)}, got {keys.target!r}", "target")
    return KINDS[keys.target]


def target_settings() -> dict[str, type]:
    """The sections of a study file that belong to targets, by name."""
    return {name: kind.settings for name, kind in KINDS.items() if kind.settings is not None}
