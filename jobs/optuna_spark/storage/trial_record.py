"""A trial as it goes into the database."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

# TPE notes with a running trial what it sampled, for samplers in other processes; here the driver alone samples.
_SCRATCH = "tpe:relative_params"


@dataclass(frozen=True)
class TrialRecord:
    """What a trial was at one moment; holds copies, so that it may cross to another thread.

    Attributes:
        start, complete: As the database stores them. A trial starts when a worker gets it, not when it is sampled.
        params: Internal representation by name, in the order of suggestion.
        distributions: As JSON, by name.
    """

    number: int
    state: TrialState
    start: str | None
    complete: str | None
    values: tuple[float, ...]
    params: dict[str, float]
    distributions: dict[str, str]
    user_attrs: dict[str, Any]
    system_attrs: dict[str, Any]
    intermediate_values: dict[int, float]

    @classmethod
    def of(cls, trial: FrozenTrial, start: datetime.datetime | None) -> TrialRecord:
        """The record of a trial that a worker got at `start` (naive local time, as Optuna has it)."""
        internal = {n: float(trial.distributions[n].to_internal_repr(v)) for n, v in trial.params.items()}
        return cls(
            number=trial.number,
            state=trial.state,
            start=stored_moment(start),
            complete=stored_moment(trial.datetime_complete),
            values=tuple(trial.values or ()),
            params=internal,
            distributions={n: distribution_to_json(d) for n, d in trial.distributions.items()},
            user_attrs=dict(trial.user_attrs),
            system_attrs={k: v for k, v in trial.system_attrs.items() if not k.startswith(_SCRATCH)},
            intermediate_values=dict(trial.intermediate_values),
        )


def stored_moment(moment: datetime.datetime | None) -> str | None:
    """Naive local time as Optuna stores it: naive UTC, in the one format that MySQL and SQLite share."""
    if moment is None:
        return None
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
