"""The run's own notes on a trial: which run and worker had it, when exactly, what it repeats, and why it failed.

They are system attributes under one prefix, so no user attribute of an objective can be taken for one of them.
Version 0.1.0 kept them as user attributes; those are read of trials that have none of these notes.

Imports Optuna and the standard library only, because the Airflow side imports it too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial

from optuna_spark.storage.limits import ERROR_CHARACTERS

PREFIX = "optuna_spark:"
# {"run_id": ..., "worker": ..., "start": ..., "complete": ...}: one row of the database rather than four. Times are
# here because Optuna's own columns hold whole seconds on MySQL.
RUN = f"{PREFIX}run"
# {"retried_from": number, "retries": count}, of a trial that repeats a lost one.
RETRY = f"{PREFIX}retry"
# A text. Not in RUN, because with it that could be longer than a column holds.
ERROR = f"{PREFIX}error"
# {parameter: value}: the point of a grid that a trial evaluates, before its objective has asked for any of it.
POINT = f"{PREFIX}point"
# Optuna's GridSampler notes here which point that is, and of which grid. What the number means depends on the seed.
GRID_ID, GRID_SPACE = "grid_id", "search_space"
# Optuna's system attribute with the parameters of a trial that was queued.
FIXED = "fixed_params"
# What version 0.1.0 named the run and the error, as user attributes.
OLD_RUN_ID, OLD_ERROR = "run_id", "error"


@dataclass(frozen=True)
class TrialMarks:
    """A trial's notes; None for what it has no note of.

    Attributes:
        run_id: The run that the trial belongs to.
        worker: The worker that had it.
        retried_from: Number of the lost trial that it repeats.
        retries: How often its parameters were tried again, at least 1 if it repeats a trial.
        error: Why it failed.
    """

    run_id: str | None = None
    worker: str | None = None
    retried_from: int | None = None
    retries: int | None = None
    error: str | None = None


def is_marked(trial: FrozenTrial) -> bool:
    """Whether this version has made notes on the trial; it does so before the trial's objective starts."""
    attrs = trial.system_attrs
    return RUN in attrs or RETRY in attrs or ERROR in attrs


def marks_of(trial: FrozenTrial) -> TrialMarks:
    if not is_marked(trial):
        return _old_marks(trial.user_attrs)
    attrs = trial.system_attrs
    run, retry = attrs.get(RUN, {}), attrs.get(RETRY, {})
    return TrialMarks(
        run.get("run_id"), run.get("worker"), retry.get("retried_from"), retry.get("retries"), attrs.get(ERROR)
    )


def run_id_of(trial: FrozenTrial) -> str | None:
    """The run that a trial belongs to; None for a trial of no run of ours."""
    if is_marked(trial):
        run_id: str | None = trial.system_attrs.get(RUN, {}).get("run_id")
        return run_id
    return _text(trial.user_attrs.get(OLD_RUN_ID))


def error_of(trial: FrozenTrial) -> str | None:
    """Why a trial failed; None if nobody has said so."""
    if is_marked(trial):
        error: str | None = trial.system_attrs.get(ERROR)
        return error
    old = trial.user_attrs.get(OLD_ERROR)
    return None if old is None else str(old)


def times_of(trial: FrozenTrial) -> tuple[datetime | None, datetime | None]:
    """When a trial began and ended, in naive local time: exactly where that was noted, else as Optuna stores it."""
    run = trial.system_attrs.get(RUN, {})
    start, complete = _moment(run.get("start")), _moment(run.get("complete"))
    # Not one from here and one from there: MariaDB cuts a second off, so the trial could end before it began.
    exact = start is not None and (complete is not None or trial.datetime_complete is None)
    return (start, complete) if exact else (trial.datetime_start, trial.datetime_complete)


def begun(run_id: str, worker: str | None = None, start: datetime | None = None) -> dict[str, Any]:
    """The notes on a trial of a run: that a worker got it at `start`, or that it was queued."""
    run = {"run_id": run_id, "worker": worker, "start": _iso(start)}
    return {RUN: {name: value for name, value in run.items() if value is not None}}


def ended(attrs: Mapping[str, Any], complete: datetime) -> dict[str, Any]:
    """A trial's system attributes with the moment of its end, where they have a note on its run."""
    return {**attrs, RUN: {**attrs[RUN], "complete": _iso(complete)}} if RUN in attrs else dict(attrs)


def failed(error: str) -> dict[str, Any]:
    """The note on a trial that failed: the end of its error, which names the cause."""
    return {ERROR: error[-ERROR_CHARACTERS:]}


def next_try(lost: FrozenTrial) -> dict[str, Any]:
    """The notes on the trial that takes over a lost one's parameters, or its point of a grid."""
    point = {POINT: lost.system_attrs[POINT]} if POINT in lost.system_attrs else {}
    return {RETRY: {"retried_from": lost.number, "retries": (marks_of(lost).retries or 0) + 1}, **point}


def left_to_try(lost: FrozenTrial) -> dict[str, Any] | None:
    """The parameters that another trial takes over from a lost one; None if there is nothing to take over.

    A trial that was queued may be lost before it suggests all of them. One of a grid has its point in `next_try`.
    """
    params = {**lost.system_attrs.get(FIXED, {}), **lost.params}
    return params if params or POINT in lost.system_attrs else None


def abandoned(trial: FrozenTrial, error: str) -> dict[str, Any]:
    """All notes on a trial that no worker runs any more. Version 0.1.0 may have begun it."""
    return {**kept(trial), **failed(error)}


def kept(trial: FrozenTrial) -> dict[str, Any]:
    """The notes that a trial has; those of version 0.1.0 as this version writes them."""
    if is_marked(trial):
        return own(trial.system_attrs)
    old = _old_marks(trial.user_attrs)
    notes = {} if old.run_id is None else begun(old.run_id, old.worker)
    if old.retried_from is not None:
        notes[RETRY] = {"retried_from": old.retried_from, "retries": old.retries or 1}
    return notes


def own(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The notes among a trial's system attributes."""
    return {name: attrs[name] for name in (RUN, RETRY, ERROR) if name in attrs}


def begins_with(run_id: str) -> str:
    """How the stored text of RUN begins for this run and for no other one: for SQL, which then needs no JSON."""
    return json.dumps({"run_id": run_id})[:-1]


def _old_marks(attrs: Mapping[str, Any]) -> TrialMarks:
    """What version 0.1.0 wrote. An objective may have replaced any of it."""
    error = attrs.get(OLD_ERROR)
    return TrialMarks(
        _text(attrs.get(OLD_RUN_ID)), _text(attrs.get("worker")), _count(attrs.get("retried_from")),
        _count(attrs.get("retries")), None if error is None else str(error),
    )  # fmt: skip


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone().replace(tzinfo=None)
