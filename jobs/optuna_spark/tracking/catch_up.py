"""Writes to MLflow what it lacks of a study."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from optuna_spark.storage.trial_marks import run_id_of
from optuna_spark.tracking.messages import AskMirrored, Sync, Synced
from optuna_spark.tracking.target import TrackingTarget
from optuna_spark.tracking.tracking_process import TrackingProcess

# Of one answer; a server that hangs does not answer before.
_ANSWER_S = 60.0


@dataclass(frozen=True)
class CaughtUp:
    """What a catch-up did.

    Attributes:
        written: How many trials it wrote.
        there: How many trials MLflow has now.
        missing: How many it lacks still.
        problem: Why; empty where it lacks none.
    """

    written: int
    there: int
    missing: int
    problem: str = ""


def sync(
    trials: Sequence[FrozenTrial],
    target: TrackingTarget,
    *,
    first: str | None = None,
    limit_s: float = 3_600.0,
    patience_s: float = 60.0,
) -> CaughtUp:
    """Mirror the finished trials of a study, each exactly once, in a process of its own.

    Trials that belong to no run of ours are left out.

    Args:
        trials: Of the study.
        target: The mirror.
        first: The run whose trials come first. Of the others only those are looked at then of which MLflow has another
            number of trials. By default all are.
        limit_s: Seconds after which it is given up.
        patience_s: The same for a server that does not answer.
    """
    runs = _by_run([trial for trial in trials if trial.state.is_finished()], first)
    deadline = time.monotonic() + limit_s
    process = TrackingProcess()
    try:
        return _synced(process, target, runs, first, deadline, patience_s)
    except (EOFError, OSError):
        total = sum(map(len, runs.values()))
        return CaughtUp(0, 0, total, "the process that writes to MLflow died")
    finally:
        process.end()


def _by_run(trials: Sequence[FrozenTrial], first: str | None) -> dict[str, list[FrozenTrial]]:
    """The trials of each run, the newest run first."""
    runs: dict[str, list[FrozenTrial]] = {}
    for trial in reversed(trials):
        if run_id := run_id_of(trial):
            runs.setdefault(run_id, []).append(trial)
    mine = {first: runs.pop(first)} if first in runs and first is not None else {}
    return mine | runs


def _synced(
    process: TrackingProcess,
    target: TrackingTarget,
    runs: dict[str, list[FrozenTrial]],
    first: str | None,
    deadline: float,
    patience_s: float,
) -> CaughtUp:
    written = there = 0
    total = sum(map(len, runs.values()))
    process.pipe.send(AskMirrored(target))
    said = _answer(process, deadline)
    done = said if isinstance(said, dict) and first is not None else {}
    for run_id, trials in runs.items():
        if run_id != first and done.get(run_id) == len(trials):
            there += len(trials)
            continue
        process.pipe.send(Sync(target, run_id, trials, max(0.0, deadline - time.monotonic()), patience_s))
        synced = _answer(process, deadline)
        if not isinstance(synced, Synced):
            return CaughtUp(written, there, total - there, "no answer")
        written, there = written + synced.written, there + synced.written + synced.before
        if synced.problem:
            return CaughtUp(written, there, total - there, synced.problem)
    return CaughtUp(written, there, total - there)


def _answer(process: TrackingProcess, deadline: float) -> object:
    """What the process answers; None where it takes too long."""
    if not process.pipe.poll(max(0.0, deadline - time.monotonic()) + _ANSWER_S):
        return None
    return process.pipe.recv()
