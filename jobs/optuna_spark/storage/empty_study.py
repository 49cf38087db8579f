"""A study that holds nothing yet: a run that failed before its first trial leaves one behind."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from optuna.storages import BaseStorage
from optuna.study import StudyDirection

log = logging.getLogger(__name__)

# System attributes that a run sets before its first trial, and the part of them that outlives other directions.
OURS, METRIC_NAMES = "optuna_spark:", "study:metric_names"


def is_empty(storage: BaseStorage, study_id: int) -> bool:
    """Whether a study has no trials, none that wait, and no attributes but those with which a run begins."""
    attrs = storage.get_study_system_attrs(study_id)
    return (
        storage.get_n_trials(study_id) == 0
        and not storage.get_study_user_attrs(study_id)
        and all(key.startswith(OURS) or key == METRIC_NAMES for key in attrs)
    )


def has_other_directions(storage: BaseStorage, study_id: int, directions: Sequence[str]) -> bool:
    """Whether a study is stored with other directions than these."""
    return tuple(d.name.lower() for d in storage.get_study_directions(study_id)) != tuple(directions)


def take_directions(storage: BaseStorage, name: str, directions: Sequence[str]) -> bool:
    """Give an empty study these directions, if it has others. Returns whether it had.

    Optuna cannot change the directions of a study, so it is made anew, with the run's own attributes.
    """
    try:
        study_id = storage.get_study_id_from_name(name)
    except KeyError:
        return False
    if not has_other_directions(storage, study_id, directions) or not is_empty(storage, study_id):
        return False
    attrs = storage.get_study_system_attrs(study_id)
    storage.delete_study(study_id)
    study_id = storage.create_new_study([StudyDirection[d.upper()] for d in directions], name)
    for key, value in attrs.items():
        if key.startswith(OURS):
            storage.set_study_system_attr(study_id, key, value)
    log_new_directions(name, directions)
    return True


def log_new_directions(name: str, directions: Sequence[str]) -> None:
    """Say that an empty study has taken new directions."""
    log.info("Study %s was empty, and has taken the directions %s", name, ", ".join(directions))
