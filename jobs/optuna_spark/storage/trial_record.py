"""A trial in the form in which the database takes it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

# TPE stores here what it sampled for a running trial, for samplers in other processes. Here only the driver samples.
_SCRATCH = "tpe:relative_params"


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it was at one moment. It holds copies, so another thread may use it.

    Attributes:
        number, state: As in Optuna.
        start, complete: Moments as the database stores them. A trial starts when a worker gets it, not when it is
            sampled.
        values: One value for each direction if the trial is complete, else none.
        params: Parameters in internal representation, by name, in the order in which they were suggested.
        distributions: Distributions as JSON, by name.
        user_attrs, system_attrs: Attributes by name.
        intermediate_values: Reported values by step.
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
        """The record of a trial that a worker got at `start` (naive local time, as Optuna uses it)."""
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
    """Convert naive local time to how Optuna stores it: naive UTC, in the format that MySQL and SQLite share."""
    if moment is None:
        return None
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
