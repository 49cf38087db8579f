"""Checks of the values in a worker's message.

A value of the wrong kind is a WireError, which ends the connection. One that only the database cannot hold is an
UnfitError, which fails the trial that it belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from typing import ParamSpec, TypeVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from optuna_spark.storage.limits import NAME_LENGTH, TEXT_BYTES, as_step, check_distribution, check_name
from optuna_spark.wire.sealing import WireError

P = ParamSpec("P")
T = TypeVar("T")

# Changes of each kind in one message. A worker sends its changes once it has a thousand (worker/own_trial.py).
MAX_CHANGES = 4096
# A shorter distribution fits into the database even if each of its characters takes 12 bytes there.
_SHORT = TEXT_BYTES // 12
_DISTRIBUTIONS = (FloatDistribution, IntDistribution, CategoricalDistribution)
_IN_JSON = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


class UnfitError(Exception):
    """Data of a trial that the database cannot hold; the sentence says which rule they break."""


def of_kind(kind: type[T], value: object, what: str) -> T:
    """The value, checked to be of type `kind`."""
    # A bool is an int in Python, but true and false are no numbers in JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise WireError(f"{what} must be {_IN_JSON[kind]}, got {value!r:.80}")
    return value


def few(values: Sized, what: str, most: int = MAX_CHANGES) -> None:
    """Refuse more than `most` values."""
    if len(values) > most:
        raise WireError(f"{what} must be at most {most} in one message, got {len(values)}")


def checked(check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a check of storage/limits.py, and turn its error into an UnfitError.

    The package's worker has called the same check, and has raised its error in the objective.
    """
    try:
        return check(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UnfitError(str(error)) from None


def number(value: object, what: str) -> float:
    """The value as a float; it must be a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WireError(f"{what} must be a number, got {value!r:.80}")
    try:
        return float(value)
    except OverflowError:  # JSON's whole numbers have no limit
        raise WireError(f"{what} must be a number that a float can hold") from None


def constraint(value: object) -> float:
    """The value of a constraint, which must be a number other than NaN; above 0 it is violated."""
    violation = number(value, "a constraint")
    if math.isnan(violation):
        raise WireError("a constraint must not be NaN")
    return violation


def name(value: object, longest: int = NAME_LENGTH) -> str:
    """A name that fits into the database."""
    text = of_kind(str, value, "name")
    checked(check_name, text, longest)
    return text


def report(value: object) -> tuple[int, float]:
    """A reported step and its value, from a JSON list of the two."""
    pair = of_kind(list, value, "a report")
    if len(pair) != 2:
        raise WireError(f"a report must be a step and a value, got {len(pair)} items")
    return checked(as_step, of_kind(int, pair[0], "step")), number(pair[1], "a reported value")


def distribution(value: object) -> BaseDistribution:
    """A distribution from Optuna's JSON for it, which must fit into the database."""
    text = of_kind(str, value, "distribution")
    checked(check_distribution, text)
    try:
        result = json_to_distribution(text)
    except Exception as error:  # noqa: BLE001  # whatever Optuna raises on text it has not written
        raise WireError(f"this is no distribution ({type(error).__name__}): {text!r:.200}") from None
    if not isinstance(result, _DISTRIBUTIONS):
        raise WireError(f"this is no distribution that is in use: {text!r:.200}")
    if len(text) > _SHORT:  # Optuna writes it again, where an emoji takes 12 characters
        checked(check_distribution, distribution_to_json(result))
    return result
