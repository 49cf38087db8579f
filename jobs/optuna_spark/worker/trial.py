"""The trial in a worker: Optuna's Trial interface, over a connection to the driver's study."""

from __future__ import annotations

import copy
import datetime
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.study import StudyDirection
from optuna.trial import BaseTrial

from optuna_spark.storage.limits import CONSTRAINT_LENGTH, as_float, as_step, attr_text, check_name
from optuna_spark.wire.messages import Assignment, Changes

# Reports and attributes are sent together: after a second, or when they are this large or this many.
FLUSH_S = 1.0
FLUSH_BYTES = 256 * 1024  # with wire.frames.MAX_REQUEST in mind
FLUSH_CHANGES = 1000  # with wire.checks.MAX_CHANGES in mind
_UNCHANGING = (str, int, float, bool, type(None))


class TrialLink(Protocol):
    """Sends a trial's requests to the driver. `changes` are what the objective set since the last call."""

    def suggest(self, number: int, name: str, distribution: BaseDistribution) -> float: ...

    def should_prune(self, number: int, changes: Changes) -> bool: ...

    def update(self, number: int, changes: Changes) -> None: ...


@dataclass
class _Unsent:
    """Changes that the objective has made and the driver does not know yet. `size` counts bytes of attributes."""

    reports: list[tuple[int, float]] = field(default_factory=list)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    constraints: dict[str, float] = field(default_factory=dict)
    size: int = 0

    @property
    def many(self) -> bool:
        count = len(self.reports) + len(self.user_attrs) + len(self.constraints)
        return self.size > FLUSH_BYTES or count >= FLUSH_CHANGES


class RemoteStudy:
    """The part of `optuna.Study` that objectives and pruning callbacks use: name, directions and `stop`.

    Args:
        name: The study's name.
        directions: minimize or maximize, one for each value.
        stop: Asks the driver to start no further trial.
    """

    def __init__(self, name: str, directions: Sequence[str], stop: Callable[[], None]) -> None:
        self.study_name = name
        self.directions = [StudyDirection[d.upper()] for d in directions]
        self._stop = stop

    @property
    def direction(self) -> StudyDirection:
        if len(self.directions) > 1:
            raise RuntimeError("A single direction cannot be retrieved from a multi-objective study.")
        return self.directions[0]

    def stop(self) -> None:
        """Start no further trial; running trials may end."""
        self._stop()

    def __getattr__(self, name: str) -> object:
        raise AttributeError(
            f"trial.study.{name} is not available here, because the study is in the driver: an objective may use"
            " study_name, direction, directions and stop(); with coordination database it has all of the study"
        )


class RemoteTrial(BaseTrial):
    """A running trial, used like `optuna.Trial` by an objective. Not thread-safe.

    Parameters of a declared search space have been sampled already. The driver samples others when they are first
    suggested. Reports and attributes travel together: with `should_prune`, with the trial's end, or once a second.

    Args:
        link: Sends requests to the driver.
        assignment: The trial as the driver handed it out.
        distributions: The distributions of the parameters that are sampled already.
        study: The part of the study that the objective may use.

    Attributes:
        study: Name, directions and `stop` of the study.
    """

    def __init__(
        self,
        link: TrialLink,
        assignment: Assignment,
        distributions: Mapping[str, BaseDistribution],
        study: RemoteStudy,
    ) -> None:
        self._link, self._number, self._start = link, assignment.number, assignment.start
        self._distributions = dict(distributions)
        self._params = {n: distributions[n].to_external_repr(v) for n, v in assignment.params.items()}
        self._user_attrs = dict(assignment.user_attrs)
        self.study = study
        self._constraints: dict[str, float] = {}
        self._steps: set[int] = set()
        self._changes = _Unsent()
        self._flushed = time.monotonic()

    @property
    def number(self) -> int:
        return self._number

    @property
    def params(self) -> dict[str, Any]:
        return copy.deepcopy(self._params)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        return copy.deepcopy(self._distributions)

    @property
    def user_attrs(self) -> dict[str, Any]:
        return copy.deepcopy(self._user_attrs)

    @property
    def datetime_start(self) -> datetime.datetime | None:
        return self._start

    @property
    def constraints(self) -> dict[str, float]:
        return dict(self._constraints)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value: float = self._suggest(name, FloatDistribution(low, high, log=log, step=step))
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._suggest(name, IntDistribution(low, high, log=log, step=step)))

    def suggest_categorical(  # type: ignore[override]  # Optuna's overloads say the same
        self, name: str, choices: Sequence[CategoricalChoiceType]
    ) -> CategoricalChoiceType:
        value: CategoricalChoiceType = self._suggest(name, CategoricalDistribution(choices))
        return value

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        return self.suggest_float(name, low, high, step=q)

    def report(self, value: float, step: int) -> None:
        self._check_single("report")
        number, at = as_float(value), as_step(step)
        if at in self._steps:  # as Optuna does
            warnings.warn(f"The reported value is ignored because this `step={at}` is already reported.", stacklevel=2)
            return
        self._steps.add(at)
        self._changes.reports.append((at, number))
        self._flush_now_and_then()

    def should_prune(self) -> bool:
        self._check_single("should_prune")
        return self._link.should_prune(self._number, self.take_changes())

    def set_user_attr(self, key: str, value: Any) -> None:
        check_name(key)
        text = attr_text(key, value)
        # Copies: the objective may change the value afterwards, and it is what it was now that counts.
        plain = type(value) in _UNCHANGING
        self._user_attrs[key] = value if plain else copy.deepcopy(value)
        self._changes.user_attrs[key] = value if plain else json.loads(text)
        self._changes.size += len(text)
        self._flush_now_and_then()

    def set_constraint(self, key: str, value: float) -> None:
        check_name(key, CONSTRAINT_LENGTH)
        number = as_float(value)
        if math.isnan(number):
            raise ValueError(f"Attempted to set a constraint for {key!r}, but NaN is not allowed.")
        if key in self._constraints:
            warnings.warn(
                f"The constraint value is ignored because this constraint `{key=}` is already set.", stacklevel=2
            )
            return
        self._constraints[key] = number
        self._changes.constraints[key] = number
        self._flush_now_and_then()

    def take_changes(self) -> Changes:
        """Take the changes that were not sent yet. The caller sends them."""
        changes, self._changes = self._changes, _Unsent()
        self._flushed = time.monotonic()
        return Changes(tuple(changes.reports), changes.user_attrs, changes.constraints)

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        known = self._distributions.get(name)
        if known is not None:
            check_distribution_compatibility(known, distribution)
            self._warn_if_other(name, known, distribution)
            return self._params[name]
        check_name(name)
        internal = self._link.suggest(self._number, name, distribution)
        value = distribution.to_external_repr(internal)
        self._params[name], self._distributions[name] = value, distribution
        return value

    def _warn_if_other(self, name: str, known: BaseDistribution, distribution: BaseDistribution) -> None:
        if known != distribution:
            warnings.warn(
                f'Inconsistent parameter values for distribution with name "{name}": this trial has it already,'
                f" with {known}; that value is used and {distribution} is not.",
                RuntimeWarning,
                stacklevel=4,
            )

    def _check_single(self, method: str) -> None:
        if len(self.study.directions) > 1:
            raise NotImplementedError(f"Trial.{method} is not supported for multi-objective optimization.")

    def _flush_now_and_then(self) -> None:
        if self._changes.many or time.monotonic() - self._flushed > FLUSH_S:
            self._link.update(self._number, self.take_changes())
