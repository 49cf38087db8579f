"""The runs that have worked on a study, oldest first, noted in the study itself.

They stand in the study's system attributes, where neither an objective nor a user's own attributes can meet them, and
go where the study goes: into its copy on a Volume, and with it under another name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

# Both in the namespace that the engine uses too.
OWN, FORMER = "optuna_spark:runs", "optuna_spark:former_runs"
# Optuna's column takes 64 KiB. Of a study with more runs the oldest fall out, and count as runs before all others.
LIMIT = 48_000
# An earlier version noted here which run created the study.
CREATED_BY = "created_by_run"


@dataclass(frozen=True)
class StudyRuns:
    """Keys of runs (`RunIdentity.key`).

    Attributes:
        own: Runs that prepared the study, in that order, each with the digest of its settings; None from an earlier
            version.
        former: Runs whose trials went with an earlier study of this name, when a reset replaced it.
    """

    own: Mapping[str, str | None]
    former: Sequence[str] = ()

    def has(self, key: str) -> bool:
        return key in self.own

    @property
    def newest(self) -> str:
        """The run that prepared the study last; empty where none is noted."""
        return next(reversed(list(self.own)), "")

    def lost(self, key: str) -> bool:
        """Whether another study has the name of the one that this run prepared.

        Of a study that an earlier version began nobody can say so.
        """
        return key in self.former or (any(self.own.values()) and key not in self.own)

    def is_newest(self, key: str) -> bool:
        """Whether no other run has prepared the study since; so it is where none is noted."""
        return self.newest in ("", key)

    def after(self, key: str) -> list[str]:
        """The runs that came after this one; all that are noted with their settings for one that is not noted."""
        own = list(self.own)
        return own[own.index(key) + 1 :] if key in own else [other for other, digest in self.own.items() if digest]

    def with_run(self, key: str, digest: str) -> StudyRuns:
        """With a run as the newest one, or with other settings where it is noted already."""
        return replace(self, own={**self.own, key: digest})

    def replaced(self) -> StudyRuns:
        """What a study that takes the place of this one begins with."""
        return StudyRuns({}, [*self.former, *self.own])


def read_runs(name: str, storage: BaseStorage) -> StudyRuns:
    """The runs noted in a study.

    Raises:
        KeyError: There is no study of this name.
    """
    study_id = storage.get_study_id_from_name(name)
    attrs = storage.get_study_system_attrs(study_id)
    own = dict(attrs.get(OWN, []))
    creator = storage.get_study_user_attrs(study_id).get(CREATED_BY)
    if not own and isinstance(creator, str):
        own = {creator: None}
    return StudyRuns(own, attrs.get(FORMER, []))


def study_is_gone(name: str, next: str) -> TaskError:
    """What a run meets that finds no study under the name it prepared, and what its reader can do."""
    return TaskError(Failure(what=f"study {name!r} is gone: somebody deleted it after this run prepared it", next=next))


def write_runs(name: str, storage: BaseStorage, runs: StudyRuns) -> None:
    """Note the runs in a study; the oldest are left out where they would not fit."""
    study_id = storage.get_study_id_from_name(name)
    storage.set_study_system_attr(study_id, OWN, _fitting([list(item) for item in runs.own.items()]))
    storage.set_study_system_attr(study_id, FORMER, _fitting(list(runs.former)))


def _fitting(entries: list[Any]) -> list[Any]:
    while len(json.dumps(entries).encode()) > LIMIT:
        entries = entries[max(1, len(entries) // 10) :]
    return entries


def settings_digest(document: Mapping[str, Any]) -> str:
    """A short text that is the same for the same settings of a run."""
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
