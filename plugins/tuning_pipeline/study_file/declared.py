"""Every key of a study file as it was declared, the objectives' sections among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal

from optuna_spark.objectives.registry import sections
from optuna_spark.spec.key import DeclaredKey, Group, Key, declared_keys
from tuning_pipeline.study_file.keys.study_keys import StudyKeys
from tuning_pipeline.targets.registry import KINDS

# In the settings the section of whichever objective a study has, and those of all targets by their names; in a study
# file each has its own name.
SECTION_KEY, TARGETS_KEY = "objective_section", "target_sections"


@cache
def study_parts() -> Mapping[Group, tuple[DeclaredKey, ...]]:
    """The keys of each part of a study file, as declared; what is in a section follows the section."""
    parts: dict[Group, list[DeclaredKey]] = {group: [] for group in Group}
    group = None
    for declared in _all_keys():
        if "." not in declared.path:
            group = declared.key.group
        if group is None:
            raise TypeError(f"the key {declared.path} is declared without a group")
        parts[group].append(declared)
    return {group: tuple(keys) for group, keys in parts.items()}


def study_keys() -> tuple[DeclaredKey, ...]:
    """All of them, in the order of the study file."""
    return tuple(declared for keys in study_parts().values() for declared in keys)


def _all_keys() -> Iterator[DeclaredKey]:
    for declared in declared_keys(StudyKeys):
        if declared.path == SECTION_KEY:
            yield from _objective_sections(declared)
        elif declared.path == TARGETS_KEY:
            yield from _target_sections(declared)
        elif declared.path == "target":
            yield dataclasses.replace(declared, hint=Literal[tuple(KINDS)], key=_target_key(declared.key))
        else:
            yield declared


def _objective_sections(declared: DeclaredKey) -> Iterator[DeclaredKey]:
    for name, section in sections().items():
        yield DeclaredKey(name, section, None, declared.key)
        yield from declared_keys(section, f"{name}.")


def _target_sections(declared: DeclaredKey) -> Iterator[DeclaredKey]:
    for name, kind in KINDS.items():
        if kind.settings is not None:
            key = dataclasses.replace(declared.key, help=f"How the study runs on {kind.title}, for that target.")
            yield DeclaredKey(name, kind.settings, kind.settings(), key)
            yield from declared_keys(kind.settings, f"{name}.")


def _target_key(key: Key) -> Key:
    return dataclasses.replace(
        key, help=f"{key.help} " + ", or ".join(f"on {kind.title}" for kind in KINDS.values()) + "."
    )


def top_level_keys() -> list[str]:
    """The names that may stand at the left edge of a study file."""
    return [declared.path for declared in study_keys() if "." not in declared.path]
