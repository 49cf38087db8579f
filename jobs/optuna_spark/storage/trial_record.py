"""A trial in the form in which the database takes it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.storage import trial_marks
from optuna_spark.storage.choices import internal_repr

# TPE stores here what it sampled for a running trial, for samplers in other processes. Here only the driver samples.
_SCRATCH = "tpe:relative_params"
FIXED = trial_marks.FIXED


@dataclass(frozen=True)
class Refusal:
    """A trial whose data the database refused. Its row holds none of them; if it had ended, it is stored as failed.

    Attributes:
        number: The trial.
        ended: Whether the trial had ended.
        reason: A sentence for a person: what was refused, and what to do.
        in_a_row: How many ended trials were refused since the last one that was stored as it ended.
    """

    number: int
    ended: bool
    reason: str
    in_a_row: int


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
        intermediate_values: Reported values by step: all, or those that no earlier record of the trial has.
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
    def of(cls, trial: FrozenTrial, start: datetime.datetime | None, reports_before: int = 0) -> TrialRecord:
        """The record of a trial.

        Args:
            trial: The trial.
            start: When a worker got it, in naive local time, as Optuna uses it.
            reports_before: How many of its reports are in earlier records, and so left out of this one.
        """
        attrs = lasting_system_attrs(trial)
        internal = {n: internal_repr(trial.distributions[n], v) for n, v in trial.params.items()}
        return cls(
            number=trial.number,
            state=trial.state,
            start=stored_moment(start),
            complete=stored_moment(trial.datetime_complete),
            values=tuple(trial.values or ()),
            params=internal,
            distributions={n: distribution_to_json(d) for n, d in trial.distributions.items()},
            user_attrs=dict(trial.user_attrs),
            system_attrs=trial_marks.ended(attrs, trial.datetime_complete) if trial.datetime_complete else attrs,
            intermediate_values=_last(trial.intermediate_values, len(trial.intermediate_values) - reports_before),
        )

    def following(self, earlier: TrialRecord) -> TrialRecord:
        """This record with the reports of an earlier one, which it replaces."""
        return replace(self, intermediate_values=earlier.intermediate_values | self.intermediate_values)

    def without_data(self, reason: str) -> TrialRecord:
        """This record as every database takes it: without what the objective set, and failed if the trial has ended.

        A trial needs a row even then, because Optuna numbers trials in the order of their rows.
        """
        attrs, state = trial_marks.own(self.system_attrs), self.state
        if state.is_finished():
            said = attrs.get(trial_marks.ERROR)
            attrs |= trial_marks.failed(f"{said}\n{reason}" if said not in (None, reason) else reason)
            state = TrialState.FAIL
        return replace(
            self, state=state, values=(), params={}, distributions={}, user_attrs={}, system_attrs=attrs,
            intermediate_values={},
        )  # fmt: skip


def _last(values: dict[int, float], count: int) -> dict[int, float]:
    """The values that were reported last, in their order. Does not touch the others, which may be many."""
    return dict([*islice(reversed(values.items()), count)][::-1])


def lasting_system_attrs(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's system attributes without a sampler's scratch."""
    return {k: v for k, v in trial.system_attrs.items() if not k.startswith(_SCRATCH)}


def stored_moment(moment: datetime.datetime | None) -> str | None:
    """Convert naive local time to how Optuna stores it: naive UTC, in the format that MySQL and SQLite share."""
    if moment is None:
        return None
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
