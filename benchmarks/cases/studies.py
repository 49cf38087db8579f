"""What a study's database says about a run: the same questions to every contender that keeps one."""

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


def window_s(trials: list[FrozenTrial]) -> float:
    """From the first trial's start to the last one's end."""
    starts = [t.datetime_start for t in trials if t.datetime_start]
    ends = [t.datetime_complete for t in trials if t.datetime_complete]
    return seconds_between(min(starts), max(ends))


def start_up(trials: list[FrozenTrial], ready: float, slots: int) -> dict[str, float]:
    """How long it took until the first trial began, and until as many had begun as there are slots."""
    since = sorted(t.datetime_start.timestamp() - ready for t in trials if t.datetime_start)
    return {"first_trial_s": since[0], "all_slots_s": since[min(slots, len(since)) - 1]}


def finished(trials: list[FrozenTrial]) -> int:
    return sum(t.state == TrialState.COMPLETE for t in trials)
