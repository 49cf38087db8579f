"""The messages between driver and workers: one dataclass for each operation, which converts itself to JSON and back.

`op` names the operation in a message. Messages of a worker are checked here. One of the wrong types raises WireError,
which ends that worker's connection and no other. If only the database cannot hold what an objective has set, the
message says so (`unfit`), and that trial fails. Messages of the driver are not checked: it has proved that it knows the
run's secret, and a worker does what its driver says anyway.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

from optuna.distributions import BaseDistribution, FloatDistribution, distribution_to_json, json_to_distribution
from optuna.trial import TrialState

from optuna_spark.shown import shown
from optuna_spark.storage.limits import (
    CONSTRAINT_LENGTH,
    ERROR_CHARACTERS,
    attr_text,
    check_distribution,
    check_study_system_attr,
    check_trial_system_attr,
)
from optuna_spark.storage.trial_record import FIXED
from optuna_spark.wire import checks
from optuna_spark.wire.checks import UnfitError
from optuna_spark.wire.frames import Message
from optuna_spark.wire.sealing import WireError

NAME_CHARACTERS = 250
PAGE_CHARACTERS = 1024 * 1024  # with MAX_REPLY in mind: in a message each of them takes two bytes at most
# What a worker reads of the study: all trials, all but the running ones, the best one, or the study's attributes.
Part = Literal["trials", "ended", "best", "attrs"]
_PARTS: tuple[Part, ...] = get_args(Part)
# In place of a distribution that the database cannot hold.
_NO_DISTRIBUTION = FloatDistribution(0, 0)
_ENDS = {state.name: state for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)}


class Worker(NamedTuple):
    """One connection of a worker. `key` is unique in the run; `name` is host:pid, for people.

    A worker that connects again gets a new key, so that nothing is taken for its earlier connection's.
    """

    key: int
    name: str


# Parts of several operations.


@dataclass(frozen=True)
class Assignment:
    """A trial as a worker gets it.

    Attributes:
        number: The trial's number.
        start: When it was handed out, in naive local time of the driver, as Optuna uses it.
        params: The parameters sampled so far (the declared search space), in internal representation.
        user_attrs: The trial's user attributes so far.
        distributions: The distributions of those parameters that the declared search space lacks.
    """

    number: int
    start: datetime.datetime
    params: dict[str, float]
    user_attrs: dict[str, Any]
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)

    def to_message(self) -> Message:
        message: Message = {
            "number": self.number,
            "start": self.start.isoformat(),
            "params": self.params,
            "user_attrs": self.user_attrs,
        }
        return message | {"distributions": _texts(self.distributions)} if self.distributions else message

    @classmethod
    def from_message(cls, message: Message) -> Self:
        start = datetime.datetime.fromisoformat(message["start"])
        others = _distributions(message.get("distributions", {}))
        return cls(message["number"], start, message["params"], message["user_attrs"], others)


@dataclass(frozen=True)
class Changes:
    """What an objective set on its trial since the last message.

    Attributes:
        reports: Pairs of step and value, in the order in which they were reported.
        user_attrs: User attributes by name.
        constraints: Constraint values by name; above 0 is violated.
        system_attrs: System attributes by name: of the few that Optuna's helpers set.
        unfit: Which rule of the database the changes break; they are left out then. None if they break none.
    """

    reports: tuple[tuple[int, float], ...] = ()
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    unfit: str | None = None

    def to_message(self) -> Message:
        return {k: v for k, v in vars(self).items() if v}  # most messages carry none of them

    @classmethod
    def from_message(cls, message: object) -> Self:
        changes = checks.of_kind(dict, message, "changes")
        reports = checks.of_kind(list, changes.get("reports", []), "reports")
        attrs = checks.of_kind(dict, changes.get("user_attrs", {}), "user_attrs")
        constraints = checks.of_kind(dict, changes.get("constraints", {}), "constraints")
        system = checks.of_kind(dict, changes.get("system_attrs", {}), "system_attrs")
        parts = {"reports": reports, "user_attrs": attrs, "constraints": constraints, "system_attrs": system}
        for name, values in parts.items():
            checks.few(values, name)
        try:
            return cls._fitting(reports, attrs, constraints, system)
        except UnfitError as error:
            return cls(unfit=str(error))

    @classmethod
    def _fitting(
        cls, reports: list[Any], attrs: dict[str, Any], constraints: dict[str, Any], system: dict[str, Any]
    ) -> Self:
        for key, value in attrs.items():
            checks.checked(attr_text, checks.name(key), value)
        for key, value in system.items():
            checks.checked(check_trial_system_attr, key, value)
        violations = {checks.name(k, CONSTRAINT_LENGTH): checks.constraint(v) for k, v in constraints.items()}
        return cls(tuple(map(checks.report, reports)), attrs, violations, system)


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

    def to_message(self) -> Message:
        error = self.error and self.error[-ERROR_CHARACTERS:]  # a traceback's last lines say most
        return {"state": self.state.name, "values": self.values, "error": error}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        state, values, error = message.get("state"), message.get("values"), message.get("error")
        if not isinstance(state, str) or state not in _ENDS:
            raise WireError(f"a trial's state at its end must be one of {', '.join(_ENDS)}, got {state!r:.80}")
        if (values is not None) != (state == TrialState.COMPLETE.name):
            raise WireError(f"a trial has values when it is COMPLETE, and only then; this one is {state}")
        if values is not None:
            values = tuple(checks.number(v, "a value") for v in checks.of_kind(list, values, "values"))
            if any(math.isnan(v) for v in values):
                raise WireError("a value must not be NaN")
        if error is not None:
            error = checks.of_kind(str, error, "error")[-ERROR_CHARACTERS:]
        return cls(_ENDS[state], values, error)


@dataclass(frozen=True)
class _Bare:
    """An operation without fields."""

    op: ClassVar[str]

    def to_message(self) -> Message:
        return {"op": self.op}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls()


@dataclass(frozen=True)
class _WithChanges:
    """An operation that carries changes of trial `number`."""

    op: ClassVar[str]
    number: int
    changes: Changes

    def to_message(self) -> Message:
        return {"op": self.op, "number": self.number, "changes": self.changes.to_message()}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(_number(message), Changes.from_message(message.get("changes", {})))


# Messages of a worker.


@dataclass(frozen=True)
class Hello:
    """A worker's first message. `worker` is its name, host:pid, without characters that could disturb a log."""

    op: ClassVar[str] = "hello"
    worker: str

    def to_message(self) -> Message:
        return {"op": self.op, "worker": self.worker}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        if _operation(message) != cls.op:
            raise WireError("the first message of a worker must be its hello")
        return cls(shown(checks.of_kind(str, message.get("worker"), "worker"))[:NAME_CHARACTERS])


@dataclass(frozen=True)
class Beat:
    """The worker is alive. With `echo` it asks for an Echo, because it waits for an answer."""

    op: ClassVar[str] = "beat"
    echo: bool = False

    def to_message(self) -> Message:
        return {"op": self.op, "echo": self.echo}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(message.get("echo") is True)


@dataclass(frozen=True)
class Ask(_Bare):
    """The worker asks for a trial. Answered by Next."""

    op: ClassVar[str] = "ask"


@dataclass(frozen=True)
class Suggest:
    """An objective asks for a parameter. Answered by Suggested or Raised.

    `unfit` says which rule of the database the name or the distribution breaks; None if they break none.
    """

    op: ClassVar[str] = "suggest"
    number: int
    name: str
    distribution: BaseDistribution
    unfit: str | None = None

    def to_message(self) -> Message:
        """The message.

        Raises:
            ValueError: The distribution does not fit into the database. The objective gets this error.
        """
        text = distribution_to_json(self.distribution)
        check_distribution(text)
        return {"op": self.op, "number": self.number, "name": self.name, "distribution": text}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        try:
            distribution = checks.distribution(message.get("distribution"))
            return cls(_number(message), checks.name(message.get("name")), distribution)
        except UnfitError as error:
            return cls(_number(message), "", _NO_DISTRIBUTION, str(error))


@dataclass(frozen=True)
class Update(_WithChanges):
    """Changes of a trial. Has no answer."""

    op: ClassVar[str] = "update"


@dataclass(frozen=True)
class Prune(_WithChanges):
    """Asks whether a trial should be pruned, given these changes. Answered by Pruning."""

    op: ClassVar[str] = "prune"


@dataclass(frozen=True)
class Tell:
    """A trial has ended. Answered by Durable.

    With `ask` the worker asks for its next trial as well: it comes with Durable, or before it in a Next of its own.
    """

    op: ClassVar[str] = "tell"
    number: int
    outcome: Outcome
    changes: Changes = field(default_factory=Changes)
    ask: bool = True

    def to_message(self) -> Message:
        changes, outcome = self.changes.to_message(), self.outcome.to_message()
        return {"op": self.op, "number": self.number, "changes": changes, "ask": self.ask} | outcome

    @classmethod
    def from_message(cls, message: Message) -> Self:
        outcome, changes = Outcome.from_message(message), Changes.from_message(message.get("changes", {}))
        return cls(_number(message), outcome, changes, bool(message.get("ask")))


@dataclass(frozen=True)
class Stop(_Bare):
    """An objective called `study.stop()`. Answered by Stopped."""

    op: ClassVar[str] = "stop"


@dataclass(frozen=True)
class Relative:
    """Asks for a trial's `relative_params`, which are sampled now if they were not before.

    Answered by RelativeParams or Raised.
    """

    op: ClassVar[str] = "relative"
    number: int

    def to_message(self) -> Message:
        return {"op": self.op, "number": self.number}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(_number(message))


@dataclass(frozen=True)
class Read:
    """Reads a part of the study. Answered by Pages or Raised.

    The text of the pages is JSON. Of `trials` and `ended` it holds those trials that have changed since a position, up
    to `next`, and whether there are `more`.

    Attributes:
        part: What to read.
        since: The position that the last answer ended with; 0 at first.
    """

    op: ClassVar[str] = "read"
    part: Part
    since: int = 0

    def to_message(self) -> Message:
        return {"op": self.op, "part": self.part, "since": self.since}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        part = next((part for part in _PARTS if part == message.get("part")), None)
        if part is None:
            raise WireError(f"a part of the study must be one of {', '.join(_PARTS)}, got {message.get('part')!r:.80}")
        return cls(part, max(0, checks.of_kind(int, message.get("since", 0), "since")))


@dataclass(frozen=True)
class Enqueue:
    """An objective called `study.enqueue_trial`. Answered by Enqueued or Raised."""

    op: ClassVar[str] = "enqueue"
    params: Mapping[str, Any]
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    unfit: str | None = None

    def to_message(self) -> Message:
        return {"op": self.op, "params": self.params, "user_attrs": self.user_attrs}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        params = checks.of_kind(dict, message.get("params"), "params")
        attrs = checks.of_kind(dict, message.get("user_attrs", {}), "user_attrs")
        checks.few(attrs, "user_attrs")
        try:
            checks.checked(attr_text, FIXED, params)
            for name in params:
                checks.name(name)
            for key, value in attrs.items():
                checks.checked(attr_text, checks.name(key), value)
        except UnfitError as error:
            return cls({}, unfit=str(error))
        return cls(params, attrs)


@dataclass(frozen=True)
class SetStudyAttr:
    """Sets an attribute of the study. Answered by Noted or Raised.

    Attributes:
        key, value: The attribute.
        system: Whether it is one of the few system attributes that an objective may set, and not a user attribute.
        unfit: Which rule of the database it breaks; None if it breaks none.
    """

    op: ClassVar[str] = "set_study_attr"
    key: str
    value: Any
    system: bool = False
    unfit: str | None = None

    def to_message(self) -> Message:
        return {"op": self.op, "key": self.key, "value": self.value, "system": self.system}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        value, system = message.get("value"), message.get("system") is True
        try:
            key = checks.name(message.get("key"))
            checks.checked(check_study_system_attr if system else attr_text, key, value)
        except UnfitError as error:
            return cls("", None, unfit=str(error))
        return cls(key, value, system)


@dataclass(frozen=True)
class Bye:
    """The worker leaves. `unbegun` holds the number of the trial that it gives back, if it has one."""

    op: ClassVar[str] = "bye"
    unbegun: tuple[int, ...] = ()

    def to_message(self) -> Message:
        return {"op": self.op, "unbegun": self.unbegun}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        numbers = checks.of_kind(list, message.get("unbegun", []), "unbegun")
        checks.few(numbers, "unbegun", 1)
        return cls(tuple(checks.of_kind(int, one, "number") for one in numbers))


# Messages of the driver.


@dataclass(frozen=True)
class Greeting:
    """The driver's first message: what a worker must know of the run.

    Attributes:
        study_name: The study's name.
        directions: minimize or maximize, one for each value.
        heartbeat_s: Seconds between a worker's beats.
        distributions: The declared search space, by parameter.
    """

    op: ClassVar[str] = "greeting"
    study_name: str
    directions: tuple[str, ...]
    heartbeat_s: float
    distributions: Mapping[str, BaseDistribution]

    def to_message(self) -> Message:
        return {
            "op": self.op,
            "study_name": self.study_name,
            "directions": self.directions,
            "heartbeat_s": self.heartbeat_s,
            "distributions": _texts(self.distributions),
        }

    @classmethod
    def from_message(cls, message: Message) -> Self:
        known = _distributions(message["distributions"])
        return cls(message["study_name"], tuple(message["directions"]), float(message["heartbeat_s"]), known)


@dataclass(frozen=True)
class Next:
    """What a worker does next: run `trial`, or ask again, or end because the run is `over`."""

    op: ClassVar[str] = "next"
    trial: Assignment | None = None
    over: bool = False

    def to_message(self) -> Message:
        if self.trial is None:
            return {"op": self.op, "over": self.over}
        return {"op": self.op, "trial": self.trial.to_message()}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        trial = message.get("trial")
        return cls(None if trial is None else Assignment.from_message(trial), message.get("over", False))


@dataclass(frozen=True)
class Durable:
    """The trial that the worker told is in the database. `next` is None if an earlier Next brought that."""

    op: ClassVar[str] = "durable"
    number: int
    next: Next | None = None

    def to_message(self) -> Message:
        message = {"op": self.op, "number": self.number}
        return message if self.next is None else message | {"next": self.next.to_message()}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        following = message.get("next")
        return cls(message["number"], None if following is None else Next.from_message(following))


@dataclass(frozen=True)
class Suggested:
    """The value of a parameter, in internal representation."""

    op: ClassVar[str] = "suggested"
    value: float

    def to_message(self) -> Message:
        return {"op": self.op, "value": self.value}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(float(message["value"]))


@dataclass(frozen=True)
class Raised:
    """An error that Optuna raised in the driver, to be raised in the objective. `kind` names a built-in exception."""

    op: ClassVar[str] = "raised"
    kind: str
    text: str

    def to_message(self) -> Message:
        return {"op": self.op, "kind": self.kind, "text": self.text}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(message["kind"], message["text"])


@dataclass(frozen=True)
class Pruning:
    """Whether the trial should be pruned."""

    op: ClassVar[str] = "pruning"
    prune: bool

    def to_message(self) -> Message:
        return {"op": self.op, "prune": self.prune}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(bool(message["prune"]))


@dataclass(frozen=True)
class Stopped(_Bare):
    """The driver starts no further trial."""

    op: ClassVar[str] = "stopped"


@dataclass(frozen=True)
class RelativeParams:
    """A trial's relative parameters, in internal representation, and their distributions."""

    op: ClassVar[str] = "relative_params"
    params: Mapping[str, float]
    distributions: Mapping[str, BaseDistribution]

    def to_message(self) -> Message:
        return {"op": self.op, "params": self.params, "distributions": _texts(self.distributions)}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(message["params"], _distributions(message["distributions"]))


@dataclass(frozen=True)
class Page:
    """A piece of what a worker reads. The texts of an answer's pages make one JSON text; `more` pages follow, or none.

    In pieces, because a single trial with many attributes may be larger than a message.
    """

    op: ClassVar[str] = "page"
    text: str
    more: bool = False

    def to_message(self) -> Message:
        return {"op": self.op, "text": self.text, "more": self.more}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(message["text"], message["more"])

    @classmethod
    def all_of(cls, text: str) -> Iterator[Self]:
        """The pages of a text, which is ASCII."""
        for start in range(0, len(text), PAGE_CHARACTERS):
            yield cls(text[start : start + PAGE_CHARACTERS], start + PAGE_CHARACTERS < len(text))


@dataclass(frozen=True)
class Enqueued:
    """The number of the trial that waits."""

    op: ClassVar[str] = "enqueued"
    number: int

    def to_message(self) -> Message:
        return {"op": self.op, "number": self.number}

    @classmethod
    def from_message(cls, message: Message) -> Self:
        return cls(message["number"])


@dataclass(frozen=True)
class Noted(_Bare):
    """The study has the attribute. It is stored soon, at the run's end at the latest."""

    op: ClassVar[str] = "noted"


@dataclass(frozen=True)
class Echo(_Bare):
    """The driver is alive."""

    op: ClassVar[str] = "beat"


# The dispatcher handles a Request and gives an Answer. The other messages concern the connection only.
Request = Ask | Suggest | Update | Prune | Tell | Stop | Relative | Read | Enqueue | SetStudyAttr
Answer = Next | Durable | Suggested | Raised | Pruning | Stopped | RelativeParams | Page | Enqueued | Noted
_FROM_WORKER: dict[str, type[Request | Beat | Bye]] = {kind.op: kind for kind in (*get_args(Request), Beat, Bye)}
_FROM_DRIVER: dict[str, type[Answer | Echo]] = {kind.op: kind for kind in (*get_args(Answer), Echo)}


def from_worker(message: Message) -> Request | Beat | Bye:
    """A worker's message after its hello, checked.

    Raises:
        WireError: It is not a message that a worker may send.
    """
    name = _operation(message)
    kind = _FROM_WORKER.get(name)
    if kind is None:
        raise WireError(f"unknown request {name!r:.80}")
    return kind.from_message(message)


def from_driver(message: Message) -> Answer | Echo:
    """The driver's message after its greeting."""
    return _FROM_DRIVER[message["op"]].from_message(message)


def _operation(message: Message) -> str:
    return checks.of_kind(str, message.get("op"), "op")


def _texts(distributions: Mapping[str, BaseDistribution]) -> dict[str, str]:
    return {name: distribution_to_json(distribution) for name, distribution in distributions.items()}


def _distributions(texts: Mapping[str, str]) -> dict[str, BaseDistribution]:
    return {name: json_to_distribution(text) for name, text in texts.items()}


def _number(message: Message) -> int:
    """The trial that a message is about."""
    return checks.of_kind(int, message.get("number"), "number")
