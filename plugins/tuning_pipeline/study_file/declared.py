"""Every key of a study file as it was declared, the objectives' sections among them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from optuna_spark.objectives.registry import sections
from optuna_spark.spec.key import DeclaredKey, Group, declared_keys
from tuning_pipeline.study_file.keys import StudyKeys

# In the settings the section of whichever objective a study has; in a study file each has its own name.
SECTION_KEY = "objective_section"


@cache
def study_keys() -> tuple[DeclaredKey, ...]:
    """In the order of the study file: by part, and as declared within it."""
    groups: list[list[DeclaredKey]] = []
    for declared in _all_keys():
        if "." not in declared.path:
            groups.append([])
        groups[-1].append(declared)
    order = list(Group)
    groups.sort(key=lambda keys: order.index(_group(keys[0])))
    return tuple(declared for group in groups for declared in group)


def _group(declared: DeclaredKey) -> Group:
    if declared.key.group is None:
        raise TypeError(f"the key {declared.path} is declared without a group")
    return declared.key.group


def _all_keys() -> Iterator[DeclaredKey]:
    for declared in declared_keys(StudyKeys):
        if declared.path != SECTION_KEY:
            yield declared
            continue
        for name, section in sections().items():
            yield DeclaredKey(name, section, None, declared.key)
            yield from declared_keys(section, f"{name}.")


def top_level_keys() -> list[str]:
    """The names that may stand at the left edge of a study file."""
    return [declared.path for declared in study_keys() if "." not in declared.path]
