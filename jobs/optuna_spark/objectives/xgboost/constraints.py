"""Monotone and interaction constraints: by names of features, as XGBoost's own DataFrames have them, or by place.

Standard library only: Airflow checks a study file with it. https://xgboost.readthedocs.io/en/release_3.2.0/tutorials/
monotonic.html and feature_interaction_constraint.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna_spark.errors import DataError, SpecError

MONOTONE, INTERACTION = "monotone_constraints", "interaction_constraints"
_SIGNS = (-1, 0, 1)


def check_constraint(name: str, value: Any, key: str) -> None:
    """Refuse a constraint that is none for whatever table.

    Args:
        name: Of the parameter; any other than the two is passed.
        value: Its value. A text is XGBoost's own.
        key: Where it stands in the study file.

    Raises:
        SpecError: It has not the form of one.
    """
    if isinstance(value, str) or value is None:
        return
    if name == MONOTONE:
        _check_monotone(value, key)
    elif name == INTERACTION:
        _check_interaction(value, key)


def _check_monotone(value: Any, key: str) -> None:
    if not isinstance(value, Mapping | list | tuple) or not value:
        raise SpecError(f"must be a mapping such as {{age: 1}}, or a list of one number a feature, got {value!r}", key)
    for sign in value.values() if isinstance(value, Mapping) else value:
        if isinstance(sign, bool) or sign not in _SIGNS:
            raise SpecError(f"must hold 1 (never falls), -1 (never rises) or 0 (free), got {sign!r}", key)


def _check_interaction(value: Any, key: str) -> None:
    groups = value if isinstance(value, list | tuple) else []
    if not groups or not all(isinstance(group, list | tuple) and group for group in groups):
        raise SpecError(f"must be a list of lists of features, such as [[age, bmi], [s1, s2]], got {value!r}", key)
    kinds = {type(feature) for group in groups for feature in group}
    if kinds not in ({str}, {int}):
        raise SpecError("must hold names of features, or their places counted from 0, and not both", key)


def by_place(params: Mapping[str, Any], names: Sequence[str], *, may_name: bool) -> dict[str, Any]:
    """The parameters with constraints as XGBoost takes them of a table without names.

    Args:
        params: With constraints as `check_constraint` lets them pass.
        names: Of the features, in their order.
        may_name: Whether errors may say which features there are.

    Raises:
        DataError: A constraint names no feature, or has not a number for each.
    """
    placed = dict(params)
    monotone, interaction = params.get(MONOTONE), params.get(INTERACTION)
    if isinstance(monotone, Mapping):
        _check_names(monotone, names, MONOTONE, may_name)
        placed[MONOTONE] = _as_text([monotone.get(name, 0) for name in names])
    elif isinstance(monotone, list | tuple):
        if len(monotone) != len(names):
            raise DataError(
                f"xgboost.fixed.{MONOTONE} must hold a number for each of the {len(names)} features, got"
                f" {len(monotone)}: name features instead, as in {{age: 1}}"
            )
        placed[MONOTONE] = _as_text(monotone)
    if isinstance(interaction, list | tuple):
        placed[INTERACTION] = json.dumps([_places(group, names, may_name) for group in interaction])
    return placed


def _as_text(signs: Sequence[int]) -> str:
    return f"({','.join(str(int(sign)) for sign in signs)})"


def _places(group: Sequence[Any], names: Sequence[str], may_name: bool) -> list[int]:
    if isinstance(group[0], str):
        _check_names(group, names, INTERACTION, may_name)
        return [names.index(name) for name in group]
    if not all(0 <= place < len(names) for place in group):
        raise DataError(
            f"xgboost.fixed.{INTERACTION} must hold places of features from 0 to {len(names) - 1}, got"
            f" {next(place for place in group if not 0 <= place < len(names))}"
        )
    return list(group)


def _check_names(given: Any, names: Sequence[str], parameter: str, may_name: bool) -> None:
    unknown = next((name for name in given if name not in names), None)
    if unknown is None:
        return
    shown = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    has = f"; they are {shown}" if may_name else f", of which it has {len(names)}"
    raise DataError(f"xgboost.fixed.{parameter} names {unknown!r}, which is no feature of the table{has}")
