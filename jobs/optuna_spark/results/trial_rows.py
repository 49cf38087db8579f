"""Trials as plain data: rows of typed columns, and JSON objects.

Every value keeps its type: an int stays an int, a bool a bool, and a categorical parameter has its choice. Imports
Optuna and the standard library only, because the Airflow side imports it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

Kind = Literal["int", "float", "bool", "text", "datetime"]

# Integers that a 64-bit column holds, and those that a float holds without rounding.
_INT64 = range(-(2**63), 2**63)
_EXACT_IN_FLOAT = range(-(2**53), 2**53 + 1)


@dataclass(frozen=True)
class Column:
    """A column of the table of trials: its name, and the type of all its values that are not None."""

    name: str
    kind: Kind


def trial_columns(trials: Sequence[FrozenTrial], n_values: int) -> list[Column]:
    """The columns of a table of `trials`: number, state, values, parameters, user attributes, times, in this order.

    Parameters and attributes are in the order in which the trials first have them.
    """
    values = ["value"] if n_values == 1 else [f"value_{i}" for i in range(n_values)]
    params: dict[str, list[BaseDistribution]] = {}
    attrs: dict[str, list[Any]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            params.setdefault(name, []).append(distribution)
        for name, value in trial.user_attrs.items():
            attrs.setdefault(name, []).append(value)
    return [
        Column("number", "int"),
        Column("state", "text"),
        *(Column(name, "float") for name in values),
        *(Column(f"params_{name}", _param_kind(found)) for name, found in params.items()),
        *(Column(f"user_attrs_{name}", _kind(found)) for name, found in attrs.items()),
        Column("datetime_start", "datetime"),
        Column("datetime_complete", "datetime"),
        Column("duration_s", "float"),
    ]


def trial_rows(trials: Iterable[FrozenTrial], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """One row for each trial, with exactly these columns; None for what a trial does not have."""
    return [
        {column.name: _cell(cells.get(column.name), column.kind) for column in columns} for cells in map(_cells, trials)
    ]


def trial_records(trials: Iterable[FrozenTrial]) -> list[dict[str, Any]]:
    """One JSON object for each trial. Its `params` can be passed to `study.enqueue_trial`."""
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            **{name: to_json_value(value) for name, value in _named_values(trial).items()},
            "params": {name: to_json_value(value) for name, value in trial.params.items()},
            "user_attrs": {name: to_json_value(value) for name, value in trial.user_attrs.items()},
            "datetime_start": to_json_value(trial.datetime_start),
            "datetime_complete": to_json_value(trial.datetime_complete),
            "duration_s": _duration_s(trial),
        }
        for trial in trials
    ]


def to_json_value(value: Any) -> Any:
    """The value in a form that strict JSON can hold: times in ISO format, infinities and NaN as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(k): to_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(v) for v in value]
    return value


def _named_values(trial: FrozenTrial) -> dict[str, float | None]:
    values: Sequence[float | None] = trial.values or [None]
    if len(values) == 1:
        return {"value": values[0]}
    return {f"value_{i}": value for i, value in enumerate(values)}


def _duration_s(trial: FrozenTrial) -> float | None:
    return trial.duration.total_seconds() if trial.duration is not None else None


def _cells(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name,
        **_named_values(trial),
        **{f"params_{name}": value for name, value in trial.params.items()},
        **{f"user_attrs_{name}": value for name, value in trial.user_attrs.items()},
        "datetime_start": trial.datetime_start,
        "datetime_complete": trial.datetime_complete,
        "duration_s": _duration_s(trial),
    }


def _cell(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "float":
        return float(value)
    if kind == "text" and not isinstance(value, str):
        return json.dumps(to_json_value(value))
    return value


def _param_kind(distributions: Sequence[BaseDistribution]) -> Kind:
    if all(isinstance(d, CategoricalDistribution) for d in distributions):
        return _kind([c for d in distributions if isinstance(d, CategoricalDistribution) for c in d.choices])
    return "int" if all(isinstance(d, IntDistribution) for d in distributions) else "float"


def _kind(values: Iterable[Any]) -> Kind:
    """The narrowest type that holds all values exactly; text if there is none."""
    found = [v for v in values if v is not None]
    kinds = {type(v) for v in found}  # not isinstance, for which a bool is an int
    if kinds == {bool}:
        return "bool"
    if kinds == {int} and all(v in _INT64 for v in found):
        return "int"
    if kinds == {float} or (kinds == {int, float} and all(v in _EXACT_IN_FLOAT for v in found if type(v) is int)):
        return "float"
    return "text"
