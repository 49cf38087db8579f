"""The trial that runs in this worker, and what its objective has set and the driver does not know yet."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.storage.limits import (
    CONSTRAINT_LENGTH,
    as_float,
    as_step,
    attr_text,
    check_name,
    check_trial_system_attr,
)
from optuna_spark.wire.messages import Assignment, Changes

# Reports and attributes are sent together: after a second, or when they are this large or this many.
FLUSH_S = 1.0
FLUSH_BYTES = 256 * 1024  # with wire.frames.MAX_REQUEST in mind
FLUSH_CHANGES = 1000  # with wire.checks.MAX_CHANGES in mind
_UNCHANGING = (str, int, float, bool, type(None))
CONSTRAINT = "constraints:"  # Optuna's prefix


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
    system_attrs: dict[str, Any] = field(default_factory=dict)
    size: int = 0

    @property
    def many(self) -> bool:
        count = len(self.reports) + len(self.user_attrs) + len(self.constraints) + len(self.system_attrs)
        return self.size > FLUSH_BYTES or count >= FLUSH_CHANGES


class OwnTrial:
    """A trial that this worker runs. Not thread-safe.

    Args:
        link: Sends requests to the driver.
        assignment: The trial as the driver handed it out.
        distributions: The distributions of the parameters that are sampled already.

    Attributes:
        frozen: The trial as its objective sees it. An objective changes it through the methods here.
        ended: Whether its end was told: it cannot change any more.
    """

    def __init__(self, link: TrialLink, assignment: Assignment, distributions: Mapping[str, BaseDistribution]) -> None:
        self._link, self.ended = link, False
        self.frozen = FrozenTrial(
            number=assignment.number,
            trial_id=assignment.number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=assignment.start,
            datetime_complete=None,
            params={n: distributions[n].to_external_repr(v) for n, v in assignment.params.items()},
            distributions=dict(distributions),
            user_attrs=assignment.user_attrs,
            system_attrs={},
            intermediate_values={},
        )
        self._unsent = _Unsent()
        self._flushed = time.monotonic()

    @property
    def number(self) -> int:
        return self.frozen.number

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        """Have the driver sample a parameter."""
        check_name(name)
        value = distribution.to_external_repr(self._link.suggest(self.number, name, distribution))
        self.frozen.params[name], self.frozen.distributions[name] = value, distribution
        return value

    def should_prune(self) -> bool:
        return self._link.should_prune(self.number, self.take_changes())

    def report(self, step: int, value: float) -> None:
        at, number = as_step(step), as_float(value)
        if at not in self.frozen.intermediate_values:  # as in the driver, the first report of a step counts
            self.frozen.intermediate_values[at] = number
            self._unsent.reports.append((at, number))
            self._flush_now_and_then()

    def set_user_attr(self, key: str, value: Any) -> None:
        check_name(key)
        self.frozen.user_attrs[key], self._unsent.user_attrs[key] = self._copies(value, attr_text(key, value))
        self._flush_now_and_then()

    def set_system_attr(self, key: str, value: Any) -> None:
        """Set a system attribute: a constraint, or one of those that Optuna's helpers set."""
        if key.startswith(CONSTRAINT):
            check_name(key, CONSTRAINT_LENGTH + len(CONSTRAINT))
            self.frozen.system_attrs[key] = self._unsent.constraints[key.removeprefix(CONSTRAINT)] = as_float(value)
        else:
            check_trial_system_attr(key, value)
            text = attr_text(key, value)
            self.frozen.system_attrs[key], self._unsent.system_attrs[key] = self._copies(value, text)
        self._flush_now_and_then()

    def take_changes(self) -> Changes:
        """Take the changes that were not sent yet. The caller sends them."""
        changes, self._unsent = self._unsent, _Unsent()
        self._flushed = time.monotonic()
        return Changes(tuple(changes.reports), changes.user_attrs, changes.constraints, changes.system_attrs)

    def _copies(self, value: Any, text: str) -> tuple[Any, Any]:
        """An attribute twice: for the objective, and as it will be stored.

        The objective may change the value afterwards, and it is what it was now that counts.
        """
        self._unsent.size += len(text)
        return (value, value) if type(value) in _UNCHANGING else (copy.deepcopy(value), json.loads(text))

    def _flush_now_and_then(self) -> None:
        if self._unsent.many or time.monotonic() - self._flushed > FLUSH_S:
            self._link.update(self.number, self.take_changes())
