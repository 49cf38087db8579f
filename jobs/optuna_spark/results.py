"""A study as plain data: its best trials, one row per trial, and the parameters to use.

Optuna and the standard library only, because the Airflow side imports it too. Every value keeps its type: an
int is an int, a bool a bool, and a categorical what its choice was.
"""

from __future__ import annotations

import copy
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import TuningError

Kind = Literal["int", "float", "bool", "text", "datetime"]

_INT64 = range(-(2**63), 2**63)
_EXACT_IN_FLOAT = range(-(2**53), 2**53 + 1)
_CREDENTIALS = re.compile(r"(\b[A-Za-z][\w+.-]*://)\S*@")


@dataclass(frozen=True)
class Column:
    """A column of the trial tables: its name and the one type all its values have (or they are None)."""

    name: str
    kind: Kind


class FixedTrials(optuna.storages.InMemoryStorage):
    """A storage whose only study has just these trials, with their own numbers, and takes no others.

    Optuna's functions take a study; this is what lets them see a study as it was at one moment, or a part of it.
    The trials are handed out as they are, never copied: whoever gets them must not change them.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._fixed = list(trials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [t for t in self._fixed if states is None or t.state in states]


def snapshot(study: optuna.Study) -> optuna.Study:
    """The study as it is now, read from its storage once; passwords in its attributes are masked."""
    return with_trials(study, [_masked(t) for t in study.get_trials(deepcopy=False)])


def with_trials(study: optuna.Study, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study like `study` (name, directions, metric names) that has just these trials, to read from."""
    return fixed_study(study.study_name, study.directions, study.metric_names, trials)


def fixed_study(
    name: str,
    directions: Sequence[StudyDirection],
    metric_names: list[str] | None,
    trials: Sequence[FrozenTrial],
) -> optuna.Study:
    """A study in memory that has just these trials, to read from."""
    with _quiet():
        study = optuna.create_study(study_name=name, directions=directions, storage=FixedTrials(trials))
        if metric_names is not None:
            study.set_metric_names(metric_names)
    return study


def mask_passwords(text: str) -> str:
    """`text` with the user and password of each URL in it replaced, as in `mysql://***@host/database`."""
    return _CREDENTIALS.sub(r"\1***@", text)


def best_trials(study: optuna.Study, top_k: int) -> list[FrozenTrial]:
    """The trials worth keeping, best first.

    Args:
        study: The study.
        top_k: How many trials at most, for one direction; a Pareto front is always returned whole.

    Returns:
        One direction: the `top_k` best complete trials by value, the earlier one first where values are equal.
        Several directions: the Pareto front, ordered by the first value, then the second and so on. Trials that
        break a constraint are left out.

    Raises:
        TuningError: `top_k` is below 1, or the study has no complete trial that keeps its constraints.
    """
    if top_k < 1:
        raise TuningError(f"top_k must be at least 1, got {top_k}")
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise TuningError(_nothing_complete(study))
    feasible = [t for t in complete if all(v <= 0 for v in t.constraints.values())]
    if not feasible:
        raise TuningError(
            f"none of the {len(complete)} complete trials of study {study.study_name!r} keeps its constraints;"
            " run more trials or loosen the constraints"
        )
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda t: _order(t, study.directions))
    return sorted(feasible, key=lambda t: _order(t, study.directions))[:top_k]


def best_params(study: optuna.Study, run_id: str) -> dict[str, Any]:
    """What best_params.json holds: the best trial of the study, as JSON can carry it.

    Of several directions this is the Pareto trial that is best in the first one; `value` is then None.

    Raises:
        TuningError: The study has no complete trial that keeps its constraints.
    """
    best = best_trials(study, 1)[0]
    values = [to_json_value(v) for v in best.values]
    return {
        "study": study.study_name,
        "run_id": run_id,
        "value": values[0] if len(values) == 1 else None,
        "values": values,
        "directions": [direction_name(d) for d in study.directions],
        "params": {name: to_json_value(value) for name, value in best.params.items()},
        "trial": best.number,
        "datetime": to_json_value(best.datetime_complete),
        "n_trials": len(study.get_trials(deepcopy=False)),
    }


def trial_columns(trials: Sequence[FrozenTrial], n_values: int) -> list[Column]:
    """The columns of a table of `trials`, in this order: number, state, values, parameters, user attributes, times.

    Parameters and attributes come in the order in which the trials first have them.
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
    """One row per trial with exactly `columns`; what a trial does not have is None."""
    return [
        {column.name: _cell(cells.get(column.name), column.kind) for column in columns} for cells in map(_cells, trials)
    ]


def trial_records(trials: Iterable[FrozenTrial]) -> list[dict[str, Any]]:
    """One JSON object per trial; `params` holds just what the trial suggested, so it can be enqueued again."""
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
    """`value` as strict JSON can carry it: times in ISO format, infinities and NaN as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(k): to_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(v) for v in value]
    return value


def direction_name(direction: StudyDirection) -> str:
    """Minimize or maximize."""
    return direction.name.lower()


def state_counts(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """How many trials are in each state, in Optuna's order of states, without the empty ones."""
    counts = Counter(trial.state for trial in trials)
    return {state.name: counts[state] for state in TrialState if counts[state]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing a new study, which it is not, and metric names as experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _masked(trial: FrozenTrial) -> FrozenTrial:
    attrs = {name: _mask(value) for name, value in trial.user_attrs.items()}
    if attrs == trial.user_attrs:
        return trial
    masked = copy.copy(trial)
    masked.user_attrs = attrs
    return masked


def _mask(value: Any) -> Any:
    if isinstance(value, str):
        # Half a surrogate pair (a strange file name in a traceback) could not be written to any file.
        return mask_passwords(value).encode(errors="replace").decode()
    if isinstance(value, dict):
        return {k: _mask(v) for k, v in value.items()}
    return [_mask(v) for v in value] if isinstance(value, list | tuple) else value


def _order(trial: FrozenTrial, directions: Sequence[StudyDirection]) -> tuple[Any, ...]:
    signs = [-1 if d == StudyDirection.MAXIMIZE else 1 for d in directions]
    return (*(sign * value for sign, value in zip(signs, trial.values, strict=True)), trial.number)


def _nothing_complete(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = ", ".join(f"{n} {state.lower()}" for state, n in state_counts(trials).items()) or "none at all"
    errors = [t.user_attrs["error"] for t in trials if t.user_attrs.get("error")]
    last = f"; the first failure says: {str(errors[0]).strip().splitlines()[-1]}" if errors else ""
    return f"study {study.study_name!r} has no complete trial to export (trials: {counts}){last}"


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
    """The narrowest type that holds all of `values` exactly; text where there is none."""
    found = [v for v in values if v is not None]
    kinds = {type(v) for v in found}
    if kinds == {bool}:
        return "bool"
    if kinds == {int} and all(v in _INT64 for v in found):
        return "int"
    if kinds == {float} or (kinds == {int, float} and all(v in _EXACT_IN_FLOAT for v in found if type(v) is int)):
        return "float"
    return "text"
