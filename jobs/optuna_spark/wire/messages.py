"""What workers and the driver say to each other, as plain data and as JSON.

What comes from a worker is checked here, for its types and for what the database can hold: a worker that says anything
else is sent away (WireError), and nobody else notices.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, TypeVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.trial import TrialState

from optuna_spark.shown import shown
from optuna_spark.storage.limits import (
    CONSTRAINT_LENGTH,
    NAME_LENGTH,
    as_step,
    attr_size,
    check_distribution,
    check_name,
)
from optuna_spark.wire.frames import Message, WireError

P = ParamSpec("P")
T = TypeVar("T")

MAX_CHANGES = 4096  # of each kind in one message; a worker sends them before there are a thousand (trial.py)
ERROR_CHARACTERS = 5000  # 12 bytes each at most, as JSON in a column of 65,535
NAME_CHARACTERS = 250
_ENDS = {state.name: state for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)}
_KINDS = (FloatDistribution, IntDistribution, CategoricalDistribution)
_IN_JSON = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


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
        """Read the changes a message brings, if any.

        Raises:
            WireError: They are none.
        """
        changes = _a(dict, message.get("changes", {}), "changes")
        reports = _a(list, changes.get("reports", []), "reports")
        attrs = _a(dict, changes.get("user_attrs", {}), "user_attrs")
        constraints = _a(dict, changes.get("constraints", {}), "constraints")
        for name, values in (("reports", reports), ("user_attrs", attrs), ("constraints", constraints)):
            _few(values, name)
        for key, value in attrs.items():
            _checked(attr_size, _name(key), value)
        violations = {_name(k, CONSTRAINT_LENGTH): _constraint(v) for k, v in constraints.items()}
        return cls(tuple(map(_report, reports)), attrs, violations)


@dataclass(frozen=True)
class Suggestion:
    """A parameter that an objective wants sampled."""

    name: str
    distribution: BaseDistribution

    @classmethod
    def from_message(cls, message: Message) -> Suggestion:
        """Read one.

        Raises:
            WireError: It is none, or the database cannot hold it.
        """
        text = _a(str, message.get("distribution"), "distribution")
        try:
            check_distribution(text)
            distribution = json_to_distribution(text)
        except Exception as error:  # noqa: BLE001  # whatever Optuna raises on text it has not written
            raise WireError(f"this is no distribution ({type(error).__name__}): {text!r:.200}") from None
        if not isinstance(distribution, _KINDS):
            raise WireError(f"this is no distribution that is in use: {text!r:.200}")
        return cls(_name(message.get("name")), distribution)


@dataclass(frozen=True)
class Outcome:
    """The end of a trial.

    Attributes:
        state: COMPLETE, PRUNED or FAIL.
        values: One value per direction of the study when COMPLETE, else None.
        error: Last lines of the traceback when FAIL, else None.
    """

    state: TrialState
    values: tuple[float, ...] | None = None
    error: str | None = None


def outcome_to_message(outcome: Outcome) -> Message:
    error = outcome.error and outcome.error[-ERROR_CHARACTERS:]
    return {"state": outcome.state.name, "values": outcome.values, "error": error}


def outcome_from_message(message: Message) -> Outcome:
    """Read an outcome.

    Raises:
        WireError: It is none.
    """
    state, values, error = (message.get(key) for key in ("state", "values", "error"))
    if not isinstance(state, str) or state not in _ENDS:
        raise WireError(f"a trial's state at its end must be one of {', '.join(_ENDS)}, got {state!r:.80}")
    if (values is not None) != (state == TrialState.COMPLETE.name):
        raise WireError(f"a trial has values when it is COMPLETE, and only then; this one is {state}")
    if values is not None:
        values = tuple(number(v, "a value") for v in _a(list, values, "values"))
        if any(math.isnan(v) for v in values):
            raise WireError("a value must not be NaN")
    if error is not None and len(_a(str, error, "error")) > ERROR_CHARACTERS:
        raise WireError(f"an error must be at most {ERROR_CHARACTERS} characters, got {len(error)}")
    return Outcome(_ENDS[state], values, error)


def operation(message: Message) -> str:
    """What a worker wants."""
    return _a(str, message.get("op"), "op")


def worker_name(hello: Message) -> str:
    """The name of a worker that has come, as it may be shown anywhere.

    Raises:
        WireError: It does not say its name.
    """
    if operation(hello) != "hello":
        raise WireError("the first message of a worker must be its hello")
    return shown(_a(str, hello.get("worker"), "worker"))[:NAME_CHARACTERS]


def trial_number(message: Message) -> int:
    """The trial that a message is about."""
    return _a(int, message.get("number"), "number")


def unbegun_trials(goodbye: Message) -> list[int]:
    """The trials that a worker gives back, which is one at most."""
    numbers = _a(list, goodbye.get("unbegun", []), "unbegun")
    _few(numbers, "unbegun", 1)
    return [_a(int, one, "number") for one in numbers]


def number(value: object, what: str) -> float:
    """A number as a float.

    Raises:
        WireError: It is none, or too large.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WireError(f"{what} must be a number, got {value!r:.80}")
    try:
        return float(value)
    except OverflowError:
        raise WireError(f"{what} must be a number that a float can hold") from None


def _report(report: object) -> tuple[int, float]:
    step, value = _pair(report)
    return _checked(as_step, _a(int, step, "step")), number(value, "a reported value")


def _pair(report: object) -> tuple[object, object]:
    pair = _a(list, report, "a report")
    if len(pair) != 2:
        raise WireError(f"a report must be a step and a value, got {len(pair)} items")
    return pair[0], pair[1]


def _constraint(value: object) -> float:
    violation = number(value, "a constraint")
    if math.isnan(violation):
        raise WireError("a constraint must not be NaN")
    return violation


def _name(name: object, longest: int = NAME_LENGTH) -> str:
    text = _a(str, name, "name")
    _checked(check_name, text, longest)
    return text


def _few(values: Sized, what: str, most: int = MAX_CHANGES) -> None:
    if len(values) > most:
        raise WireError(f"{what} must be at most {most} in one message, got {len(values)}")


def _a(kind: type[T], value: object, what: str) -> T:
    """The value, which must be of a kind; in JSON true and false are no numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise WireError(f"{what} must be {_IN_JSON[kind]}, got {value!r:.80}")
    return value


def _checked(check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What an objective would be told as an error of its own, here is the message's."""
    try:
        return check(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise WireError(str(error)) from None
