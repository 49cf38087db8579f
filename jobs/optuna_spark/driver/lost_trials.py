"""Trials that were lost with their worker: which are tried again, and what the next try knows of them."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from optuna_spark.spec.sections import StopSpec
from optuna_spark.worker.outcome import LOST


def is_forgiven(trial: FrozenTrial, stop: StopSpec) -> bool:
    """Whether a trial failed because its worker died, and not too often yet."""
    lost = trial.state == TrialState.FAIL and trial.user_attrs.get("error") == LOST
    return lost and _retries(trial) < stop.max_retries


def next_try_attrs(lost: FrozenTrial) -> dict[str, Any]:
    """User attributes of the trial that takes over a lost one's parameters."""
    return {"retried_from": lost.number, "retries": _retries(lost) + 1}


def _retries(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("retries", 0))
