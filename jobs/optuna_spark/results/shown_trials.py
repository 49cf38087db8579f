"""Trials as people see them: the run's notes among the user attributes, and exact times.

Imports Optuna and the standard library only, because the Airflow side imports it too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial

from optuna_spark.storage.trial_marks import PREFIX, is_marked, marks_of, times_of


def shown_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials of one study with the run's notes as user attributes: run_id, worker, retried_from, retries, error.

    Where an objective has a user attribute of such a name, that one keeps the name in all trials, and the note is
    called `optuna_spark:run_id` and so on. The trials that are passed are not changed.
    """
    notes = [_notes(trial) for trial in trials]
    pairs = list(zip(trials, notes, strict=True))
    taken = {n for trial, own in pairs for n in own.keys() & trial.user_attrs.keys() if trial.user_attrs[n] != own[n]}
    return [_shown(trial, own, taken) for trial, own in pairs]


def _notes(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's notes by name. Version 0.1.0 had them among the user attributes, where they still are."""
    if not is_marked(trial):
        return {}
    return {name: value for name, value in vars(marks_of(trial)).items() if value is not None}


def _shown(trial: FrozenTrial, notes: dict[str, Any], taken: set[str]) -> FrozenTrial:
    if not notes:
        return trial
    shown = copy.copy(trial)  # the storage may have the original in its cache
    shown.user_attrs = {f"{PREFIX}{n}" if n in taken else n: v for n, v in notes.items()} | trial.user_attrs
    shown.datetime_start, shown.datetime_complete = times_of(trial)
    return shown
