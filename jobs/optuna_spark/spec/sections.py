"""The sections of a run's spec, each with its keys and its own checks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import describe
from optuna_spark.spec.form_fields import CLUSTER, STOPPING, plain
from optuna_spark.spec.key import MAX_NUMBER, REQUIRED, check_limits, key, shown_number

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,249}")
# As in optuna.distributions: how far from a step a number may be and still count as on it.
_STEP_TOLERANCE = 1e-8
# A class of another package than Optuna, as own objectives are named.
_OWN_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NO_TEXT = re.compile(r"|~|null|true|false|[-+]?[0-9.]+(e[-+]?[0-9]+)?", re.IGNORECASE)
# Bytes of JSON in one column of Optuna's tables: MySQL's TEXT holds 65,535, and a few words stand around a value.
MAX_JSON = 65_000
MAX_NAME = 512  # characters of a parameter's name there


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can hold the text, which has no place for half of a surrogate pair."""
    return text.isascii() or text == text.encode(errors="ignore").decode()


@dataclass(frozen=True)
class ParamSpec:
    """One parameter of the search space, with the arguments of Optuna's suggest methods.

    Attributes:
        type: Which distribution: float, int or categorical.
        low, high: Inclusive bounds of a float or int.
        step: Distance between allowed values; not together with `log`.
        log: Sample on a logarithmic scale; `low` must then be positive.
        choices: The values of a categorical.
        when: Other parameters by name, each with the value, or a list of values, with which this one exists
            (spec/conditions.py).
    """

    type: Literal["float", "int", "categorical"]
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    when: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def conditions(self) -> dict[str, tuple[Any, ...]]:
        """The values that other parameters may have for this one to exist, by name."""
        return {name: tuple(v) if isinstance(v, list | tuple) else (v,) for name, v in self.when.items()}

    def __post_init__(self) -> None:
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()

    def _check_choices(self) -> None:
        if not self.choices:
            raise SpecError("a categorical parameter needs at least one entry in choices")
        if self.low is not None or self.high is not None or self.step is not None or self.log:
            raise SpecError("a categorical parameter takes choices only, not low, high, step or log")
        bad = [c for c in self.choices if not isinstance(c, None | bool | int | float | str)]
        if bad:
            raise SpecError(f"choices must be null, true/false, numbers or texts, got {bad[0]!r}")
        if (size := len(json.dumps(self.choices))) > MAX_JSON:
            raise SpecError(f"choices must be at most {MAX_JSON} bytes of JSON together, got {size}: use fewer")
        self._check_equal_choices()

    def _check_equal_choices(self) -> None:
        known: dict[Any, Any] = {}
        for choice in self.choices:
            first = known.setdefault(choice, choice)
            if type(first) is not type(choice):
                raise SpecError(f"Optuna takes the choices {first!r} and {choice!r} for equal: write one as text")

    def _check_range(self) -> None:
        if self.choices:
            raise SpecError(f"choices are for categorical parameters; a {self.type} takes low and high")
        if self.low is None or self.high is None:
            raise SpecError(f"a {self.type} parameter needs low and high")
        if self.low > self.high:
            raise SpecError(f"low must not be above high, got {self.low:g} > {self.high:g}")
        if self.log and self.step is not None:
            raise SpecError("log and step cannot be combined; remove one of them")
        if self.log and self.low <= 0:
            raise SpecError(f"low must be above 0 when log is true, got {self.low:g}")
        if self.step is not None and self.step <= 0:
            raise SpecError(f"step must be above 0, got {self.step:g}")
        ends = [end for end in (self.low, self.high, self.step) if end is not None]
        if self.type == "int" and not all(float(end).is_integer() for end in ends):
            raise SpecError("low, high and step of an int parameter must be whole numbers")
        for end in ends:
            if abs(end) > MAX_NUMBER:
                limit = f"{MAX_NUMBER:.0e}"
                raise SpecError(f"numbers must be between -{limit} and {limit}, got {shown_number(end)}")

    def allows(self, value: Any) -> bool:
        """Whether the parameter may have this value."""
        try:
            self.check(value)
        except SpecError:
            return False
        return True

    def check(self, value: Any) -> None:
        """Refuse a value that the parameter cannot have: Optuna itself takes numbers beyond the range.

        Raises:
            SpecError: The rule and the value.
        """
        if self.type == "categorical":
            self._check_choice(value)
        else:
            self._check_number(value)

    def _check_choice(self, value: Any) -> None:
        # A whole number may stand for a float. But neither 1.0 nor true is the choice 1.
        kinds = (int, float) if type(value) is int else (type(value),)
        if not any(type(choice) in kinds and choice == value for choice in self.choices):
            raise SpecError(f"must be one of {', '.join(map(choice_text, self.choices))}, got {describe(value)}")

    def _check_number(self, value: Any) -> None:
        assert self.low is not None  # checked in __post_init__
        assert self.high is not None
        whole = self.type == "int"
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or (whole and not float(value).is_integer()):
            raise SpecError(f"must be {'a whole number' if whole else 'a number'}, got {describe(value)}")
        if not self.low <= value <= self.high:
            raise SpecError(
                f"must be from {shown_number(self.low)} to {shown_number(self.high)}, got {shown_number(value)}"
            )
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        if abs(steps - round(steps)) >= _STEP_TOLERANCE:
            raise SpecError(
                f"must be {shown_number(self.low)} plus a multiple of {shown_number(self.step or 1)},"
                f" got {shown_number(value)}"
            )


def choice_text(choice: Any) -> str:
    """A choice as a study file writes it: a text that would be read as something else is in quotes."""
    if not isinstance(choice, str):
        return json.dumps(choice) if choice is None or isinstance(choice, bool) else str(choice)
    return repr(choice) if _NO_TEXT.fullmatch(choice) else choice


@dataclass(frozen=True)
class ComponentSpec:
    """A sampler or pruner.

    Attributes:
        name: Its class name in Optuna, or `module:Class` of another package.
        args: The keyword arguments of its constructor. One may itself be a sampler or pruner (`of`).
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if ":" in self.name and not _OWN_CLASS.fullmatch(self.name):
            raise SpecError(f"must be a class of Optuna's or module:Class, got {describe(self.name)}")

    @classmethod
    def of(cls, argument: object) -> Self | None:
        """The sampler or pruner that an argument describes; None if it is another value.

        A grid may have a parameter called `name`: a list.
        """
        if not isinstance(argument, Mapping) or not argument.keys() <= {"name", "args"}:
            return None
        name, args = argument.get("name"), argument.get("args", {})
        return cls(name, dict(args)) if isinstance(name, str) and isinstance(args, Mapping) else None

    def own_classes(self) -> Iterator[str]:
        """The classes of other packages among this and its arguments: nothing is known of them before an import."""
        if ":" in self.name:
            yield self.name
        for argument in self.args.values():
            if (nested := self.of(argument)) is not None:
                yield from nested.own_classes()


@dataclass(frozen=True)
class ResourceSpec:
    """What one Spark task occupies. A task is one worker, which runs one trial at a time."""

    cpus_per_task: int = key(
        1,
        "CPU cores of one trial.",
        minimum=1,
        maximum=1_024,
        field=plain(CLUSTER, "cpus_per_task"),
    )
    gpus_per_task: float = key(
        0.0,
        "GPUs of one trial: 0 is the CPU, 0.25 lets four trials share a GPU; above 1 for own objectives only.",
        minimum=0,
        maximum=64,
        field=plain(CLUSTER, "gpus_per_task"),
    )

    def __post_init__(self) -> None:
        gpus = self.gpus_per_task
        if gpus < 0 or (gpus > 1 and not float(gpus).is_integer()):
            raise SpecError(f"gpus_per_task must be 0, a fraction up to 1, or a whole number, got {gpus:g}")
        check_limits(self)


@dataclass(frozen=True)
class StopSpec:
    """What ends a run before its trials are spent, and what makes it fail."""

    target_value: float | None = key(
        None,
        "Stop as soon as the best value is this good (one direction only). null: never.",
        minimum=-MAX_NUMBER,
        maximum=MAX_NUMBER,
        field=plain(STOPPING, "target_value"),
    )
    terminator: bool = key(
        False, "Stop when Optuna expects no further improvement.", field=plain(STOPPING, "terminator")
    )
    max_failures: int | None = key(
        None,
        "The run fails when so many trials failed in all. null: no limit.",
        minimum=1,
        maximum=10_000_000,
        field=plain(STOPPING, "max_failures"),
    )
    max_consecutive_failures: int = key(
        10,
        "The run fails when so many trials failed in a row.",
        minimum=1,
        maximum=10_000_000,
        field=plain(STOPPING, "max_consecutive_failures"),
    )
    failures_count: bool = key(
        False, "Whether a failed trial uses up one of the run's trials.", field=plain(STOPPING, "failures_count")
    )
    max_retries: int = key(
        2,
        "How often a trial whose worker died is tried again.",
        minimum=0,
        maximum=1_000,
        field=plain(STOPPING, "max_retries"),
    )

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class CoordinatorSpec:
    """How the workers reach the driver when it hands out the trials."""

    port: int = key(
        0,
        "TCP port on the driver's host; 0: any free one. Fix it where a firewall needs to know.",
        minimum=0,
        maximum=65_535,
    )
    heartbeat_s: float = key(
        10.0,
        "A worker that says nothing for six times this many seconds is taken for dead.",
        above=0,
        maximum=3_600,
    )
    history: int = key(
        1000,
        "Finished trials that GPSampler looks at, at most. All other samplers, and pruners, look at all.",
        minimum=100,
        maximum=10_000_000,
    )
    ask_ahead: bool = key(True, "Sample the next trial while all workers are busy.")

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class TrackingSpec:
    """Where the trials of a study are mirrored to."""

    mlflow: str = key(
        REQUIRED,
        "Airflow connection of an MLflow tracking server: host, and login and password, or a token as password alone."
        " They reach Spark's driver only, and show nowhere.",
        pattern=NAME.pattern,
        must="be the id of an Airflow connection",
    )
    experiment: str | None = key(
        None,
        "MLflow experiment, which is made if it is missing. null: the study's name.",
        pattern=r"[^\x00-\x1f]{1,500}",
        must="be a name of 1 to 500 characters",
    )

    def __post_init__(self) -> None:
        check_limits(self)
