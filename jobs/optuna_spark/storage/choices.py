"""A parameter's value as Optuna's tables hold it, exact even where choices are equal in Python."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution


def internal_repr(distribution: BaseDistribution, value: Any) -> float:
    """The internal representation of a value: of a choice its index.

    Optuna's own `to_internal_repr` takes True, 1 and 1.0 for the same choice, the first of them.
    """
    if isinstance(distribution, CategoricalDistribution):
        for index, choice in enumerate(distribution.choices):
            if type(choice) is type(value) and choice == value:
                return float(index)
    return float(distribution.to_internal_repr(value))
