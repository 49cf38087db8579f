"""A trial as it goes into the database: the values of Optuna's own columns."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

Row = dict[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """What a trial was at one moment; holds copies, so that it may cross to another thread.

    Attributes:
        start: When a worker got the trial (not when it was sampled), naive local time as in Optuna.
        params: Internal representation by name, in the order of suggestion.
        distributions: As JSON, by name.
    """

    number: int
    state: TrialState
    start: datetime.datetime | None
    complete: datetime.datetime | None
    values: tuple[float, ...]
    params: dict[str, float]
    distributions: dict[str, str]
    user_attrs: dict[str, Any]
    system_attrs: dict[str, Any]
    intermediate_values: dict[int, float]

    @classmethod
    def of(cls, trial: FrozenTrial, start: datetime.datetime | None) -> TrialRecord:
        """The record of a trial that a worker got at `start`."""
        internal = {n: trial.distributions[n].to_internal_repr(v) for n, v in trial.params.items()}
        return cls(
            number=trial.number,
            state=trial.state,
            start=start,
            complete=trial.datetime_complete,
            values=tuple(trial.values or ()),
            params=internal,
            distributions={n: distribution_to_json(d) for n, d in trial.distributions.items()},
            user_attrs=dict(trial.user_attrs),
            system_attrs=dict(trial.system_attrs),
            intermediate_values=dict(trial.intermediate_values),
        )

    def trial_row(self, study_id: int) -> Row:
        return {
            "number": self.number,
            "study_id": study_id,
            "state": self.state.name,
            "datetime_start": to_utc(self.start),
            "datetime_complete": to_utc(self.complete),
        }


def to_utc(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Optuna stores naive UTC and shows naive local time."""
    return None if moment is None else moment.astimezone(datetime.UTC).replace(tzinfo=None)


def number_columns(value: float, column: str) -> Row:
    """A float as Optuna stores it: SQL has no infinities and no NaN, so a second column names the kind."""
    if math.isnan(value):
        return {column: None, f"{column}_type": "NAN"}
    if math.isinf(value):
        return {column: None, f"{column}_type": "INF_POS" if value > 0 else "INF_NEG"}
    return {column: value, f"{column}_type": "FINITE"}


def attribute_texts(attrs: Mapping[str, Any]) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in attrs.items()}
