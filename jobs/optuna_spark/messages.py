"""What workers and the driver say to each other, as plain data and as JSON."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from optuna.trial import TrialState

from optuna_spark.outcome import Outcome
from optuna_spark.wire import Message, WireError


class Worker(NamedTuple):
    """One worker's connection: its key, and host:pid for people."""

    key: int
    name: str


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker gets it.

    Attributes:
        start: When it was handed out, naive local time of the driver, as Optuna has it.
        params: Internal representation of what is sampled already: the declared search space.
    """

    number: int
    start: datetime.datetime
    params: dict[str, float]
    user_attrs: dict[str, Any]

    def to_message(self) -> Message:
        return {
            "number": self.number,
            "start": self.start.isoformat(),
            "params": self.params,
            "user_attrs": self.user_attrs,
        }

    @classmethod
    def from_message(cls, message: Message) -> Assignment:
        start = datetime.datetime.fromisoformat(message["start"])
        return cls(message["number"], start, message["params"], message["user_attrs"])


@dataclass(frozen=True)
class Update:
    """What an objective told its trial since the last time.

    Attributes:
        reports: Step and value, in the order they were made.
    """

    reports: tuple[tuple[int, float], ...] = ()
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)

    def to_message(self) -> Message:
        return {k: v for k, v in vars(self).items() if v}

    @classmethod
    def from_message(cls, message: Message) -> Update:
        reports = tuple((step, value) for step, value in message.get("reports", ()))
        return cls(reports, message.get("user_attrs", {}), message.get("constraints", {}))


def outcome_to_message(outcome: Outcome) -> Message:
    return {"state": outcome.state.name, "values": outcome.values, "error": outcome.error}


def outcome_from_message(message: Message) -> Outcome:
    """Read an outcome.

    Raises:
        WireError: It is none.
    """
    try:
        values = None if message["values"] is None else tuple(float(v) for v in message["values"])
        return Outcome(TrialState[message["state"]], values, message["error"])
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"this is no outcome of a trial: {message!r:.200}") from error
