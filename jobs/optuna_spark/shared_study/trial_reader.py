"""Reads trials from Optuna's tables: those that are new since the last look, and those that could have changed."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.database.connection import Statement, Transaction

_INFINITE = {"INF_POS": float("inf"), "INF_NEG": float("-inf"), "NAN": float("nan")}

# First the states: a trial that is finished while we read is read as running, and again at the next look.
_TRIALS = "SELECT t.trial_id, t.number, t.state, t.datetime_start, t.datetime_complete FROM trials t WHERE "
_PARTS = (
    "SELECT p.trial_id, p.param_name, p.param_value, p.distribution_json FROM trials t"
    " JOIN trial_params p ON p.trial_id = t.trial_id WHERE {} ORDER BY p.param_id",
    "SELECT v.trial_id, v.objective, v.value, v.value_type FROM trials t"
    " JOIN trial_values v ON v.trial_id = t.trial_id WHERE {} ORDER BY v.objective",
    "SELECT a.trial_id, a.`key`, a.value_json FROM trials t"
    " JOIN trial_user_attributes a ON a.trial_id = t.trial_id WHERE {}",
    "SELECT a.trial_id, a.`key`, a.value_json FROM trials t"
    " JOIN trial_system_attributes a ON a.trial_id = t.trial_id WHERE {}",
    "SELECT i.trial_id, i.step, i.intermediate_value, i.intermediate_value_type FROM trials t"
    " JOIN trial_intermediate_values i ON i.trial_id = t.trial_id WHERE {}",
)


def read_trials(
    transaction: Transaction, study_id: int, after: int = 0, also: Collection[int] = (), *, commit: bool = False
) -> dict[int, FrozenTrial]:
    """Read trials of a study.

    Args:
        transaction: Of the database.
        study_id: The study.
        after: Trials whose id is larger are read. Ids only grow, so these are the new ones.
        also: Ids of earlier trials to read, too.
        commit: Whether to end the transaction, which then takes no message of its own.

    Returns:
        The trials by id, in the order of their ids. Times are naive and local, as in Optuna.
    """
    texts, row = _statements(len(also)), (study_id, after, *sorted(also))
    run = transaction.run_and_commit if commit else transaction.run
    trials, *parts = (done.rows for done in run(*((text, [row]) for text in texts)))
    found = {row[0]: _trial(*row) for row in trials}
    for rows, put in zip(parts, _PUTS, strict=True):
        for trial_id, *fields in rows:
            if trial_id in found:  # one that began meanwhile is not
                put(found[trial_id], *fields)
    return found


def read_trial(transaction: Transaction, study_id: int, trial_id: int) -> FrozenTrial | None:
    """Read one trial of a study; None if it is gone."""
    return read_trials(transaction, study_id, trial_id, [trial_id]).get(trial_id)


@lru_cache(maxsize=256)
def _statements(also: int) -> tuple[str, ...]:
    ids = f" OR t.trial_id IN ({', '.join(['%s'] * also)})" if also else ""
    which = f"t.study_id = %s AND (t.trial_id > %s{ids})"
    return (f"{_TRIALS}{which} ORDER BY t.trial_id", *(part.format(which) for part in _PARTS))


def study_of(name: str) -> Statement:
    """Selects a study's id, and its directions in their order."""
    return (
        "SELECT s.study_id, d.direction FROM studies s JOIN study_directions d ON d.study_id = s.study_id"
        " WHERE s.study_name = %s ORDER BY d.objective",
        [(name,)],
    )


def local(moment: datetime.datetime | str | None) -> datetime.datetime | None:
    """Naive local time of a moment as it is stored: naive UTC, which SQLite returns as text."""
    if moment is None:
        return None
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    return moment.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)


def _trial(trial_id: int, number: int, state: str, start: Any, complete: Any) -> FrozenTrial:
    return FrozenTrial(
        number=number, state=TrialState[state], value=None, datetime_start=local(start),
        datetime_complete=local(complete), params={}, distributions={}, user_attrs={}, system_attrs={},
        intermediate_values={}, trial_id=trial_id,
    )  # fmt: skip


def _put_param(trial: FrozenTrial, name: str, value: float, text: str) -> None:
    distribution = _distribution(text)
    trial.distributions[name] = distribution
    trial.params[name] = distribution.to_external_repr(value)


def _put_value(trial: FrozenTrial, _objective: int, value: float | None, kind: str) -> None:
    trial.values = [*(trial.values or ()), _number(value, kind)]


def _put_user_attr(trial: FrozenTrial, key: str, text: str) -> None:
    trial.user_attrs[key] = json.loads(text)


def _put_system_attr(trial: FrozenTrial, key: str, text: str) -> None:
    trial.system_attrs[key] = json.loads(text)


def _put_step(trial: FrozenTrial, step: int, value: float | None, kind: str) -> None:
    trial.intermediate_values[step] = _number(value, kind)


def _number(value: float | None, kind: str) -> float:
    return _INFINITE[kind] if value is None else float(value)


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


# In the order of _PARTS.
_PUTS: tuple[Callable[..., None], ...] = (_put_param, _put_value, _put_user_attr, _put_system_attr, _put_step)


def numbers_have_gaps(trials: Iterable[FrozenTrial]) -> bool:
    """Whether trials, in the order of their ids, are not numbered from 0 on. Then Optuna misnumbers new ones."""
    return any(trial.number != place for place, trial in enumerate(trials))
