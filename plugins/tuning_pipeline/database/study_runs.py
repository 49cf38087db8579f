"""The list of runs that have worked on a study, which is stored in the study itself.

It is in the study's system attributes, so no attribute of an objective or a user can collide with it. And it stays with
the study, also in a copy on a Volume or under another name.
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

# Names of system attributes, in the namespace of the engine.
OWN, FORMER = "optuna_spark:runs", "optuna_spark:former_runs"
# In bytes. Optuna's column holds 64 KiB. If there are too many runs, the oldest are dropped from the list.
LIMIT = 48_000
# User attribute in which an earlier version of this package stored the run that created the study.
CREATED_BY = "created_by_run"


@dataclass(frozen=True)
class StudyRuns:
    """Keys (`RunIdentity.key`) of the runs of a study.

    Attributes:
        own: The runs that prepared the study, the oldest first, each with the digest of its settings. The digest is
            None for a run of an earlier version.
        former: The runs of earlier studies of this name, which resets have replaced.
    """

    own: Mapping[str, str | None]
    former: Sequence[str] = ()

    def has(self, key: str) -> bool:
        return key in self.own

    @property
    def newest(self) -> str:
        """The run that prepared the study last; empty if the list is."""
        return next(reversed(list(self.own)), "")

    def lost(self, key: str) -> bool:
        """Whether the study that this run prepared has been replaced by this one.

        False for a study that an earlier version began, because its list is not complete.
        """
        return key in self.former or (any(self.own.values()) and key not in self.own)

    def is_newest(self, key: str) -> bool:
        """Whether no other run has prepared the study since this one. True if the list is empty."""
        return self.newest in ("", key)

    def after(self, key: str) -> list[str]:
        """The runs after this one. For a run that is not in the list: all that have a digest of their settings."""
        own = list(self.own)
        return own[own.index(key) + 1 :] if key in own else [other for other, digest in self.own.items() if digest]

    def with_run(self, key: str, digest: str) -> StudyRuns:
        """The list with this run added as the newest, or with its new digest if it is in the list already."""
        return replace(self, own={**self.own, key: digest})

    def replaced(self) -> StudyRuns:
        """The list for a new study that replaces this one."""
        return StudyRuns({}, [*self.former, *self.own])


def read_runs(name: str, storage: BaseStorage) -> StudyRuns:
    """Read the list of a study's runs.

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
    """The error of a run whose study does not exist any more. `next` is the next step for its reader."""
    return TaskError(Failure(what=f"study {name!r} is gone: somebody deleted it after this run prepared it", next=next))


def write_runs(name: str, storage: BaseStorage, runs: StudyRuns) -> None:
    """Store the list of a study's runs. If it does not fit, the oldest runs are left out."""
    study_id = storage.get_study_id_from_name(name)
    storage.set_study_system_attr(study_id, OWN, _fitting([list(item) for item in runs.own.items()]))
    storage.set_study_system_attr(study_id, FORMER, _fitting(list(runs.former)))


def _fitting(entries: list[Any]) -> list[Any]:
    # A tenth at a time, so that a study with many runs does not drop one with each new run.
    while len(json.dumps(entries).encode()) > LIMIT:
        entries = entries[max(1, len(entries) // 10) :]
    return entries


def settings_digest(document: Mapping[str, Any]) -> str:
    """A digest of a run's settings: equal for equal settings."""
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
