"""Reads the result of a run from its study's database, in the same way for every contender that has one."""

from __future__ import annotations

from datetime import datetime

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState


def trials_of(url: sqlalchemy.URL) -> list[FrozenTrial]:
    """The trials of the only study in a database."""
    storage = optuna.storages.RDBStorage(url.render_as_string(hide_password=False))
    try:
        return optuna.load_study(study_name=None, storage=storage).get_trials(deepcopy=False)
    finally:
        storage.engine.dispose()


def seconds_between(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()


def finished(trials: list[FrozenTrial]) -> int:
    return sum(t.state == TrialState.COMPLETE for t in trials)
