"""A finished trial as a run of MLflow: plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState

from optuna_spark.results.shown_trials import shown_trials
from optuna_spark.results.snapshot import masked
from optuna_spark.results.trial_rows import to_json_value
from optuna_spark.storage.trial_marks import times_of
from optuna_spark.tracking.mlflow_names import LONGEST_PARAM, LONGEST_TAG, Names

# As MLflow's own storage for Optuna has it (mlflow.optuna.storage).
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}

TRIAL, STATE, DEVICE, NOTE = "optuna.trial_number", "optuna.state", "optuna.device", "optuna_spark.note"
INTERMEDIATE, DURATION = "intermediate_value", "duration_s"


@dataclass(frozen=True)
class MetricPoint:
    """One value of a metric: at `time_ms` since 1970."""

    key: str
    value: float
    time_ms: int
    step: int = 0


@dataclass(frozen=True)
class ChildRun:
    """What MLflow keeps of a trial. The same trial always gives the same, so that writing it twice changes nothing.

    Attributes:
        number: Of the trial.
        status: FINISHED, KILLED (pruned) or FAILED.
        start_ms, end_ms: Milliseconds since 1970.
        params, tags: Texts by name, within MLflow's limits.
        metrics: Values, duration, and the intermediate values as history.
    """

    number: int
    status: str
    start_ms: int
    end_ms: int
    params: Mapping[str, str]
    metrics: Sequence[MetricPoint]
    tags: Mapping[str, str]


def child_run(trial: FrozenTrial, metric_names: Sequence[str] = ()) -> ChildRun:
    """The run of a finished trial.

    Args:
        trial: As the storage or the driver has it.
        metric_names: What its values are called; by default value, or value_0 and so on.
    """
    start, end = (_milliseconds(moment) for moment in times_of(trial))
    start, end = start or end, end or start
    names = Names()
    params = {
        (key := names.of(name)): names.cut(f"parameter {key}", str(value), LONGEST_PARAM)
        for name, value in trial.params.items()
    }
    metrics = _metrics(trial, metric_names, start, end, notes := Names())
    tags = _tags(trial, more := Names())
    noted = "; ".join([*names.notes, *notes.notes, *more.notes, *_inexact(metrics)])
    if noted:
        tags[NOTE] = noted[:LONGEST_TAG]
    return ChildRun(trial.number, STATUS[trial.state], start, end, params, metrics, tags)


def _metrics(trial: FrozenTrial, metric_names: Sequence[str], start: int, end: int, names: Names) -> list[MetricPoint]:
    duration, intermediate = names.of(DURATION), names.of(INTERMEDIATE)
    values = trial.values or []
    given = metric_names or (["value"] if len(values) == 1 else [f"value_{place}" for place in range(len(values))])
    found = [MetricPoint(names.of(name), value, end) for name, value in zip(given, values, strict=True)]
    found.append(MetricPoint(duration, (end - start) / 1000, end))
    steps = sorted(trial.intermediate_values.items())
    return found + [MetricPoint(intermediate, value, start, step) for step, value in steps]


def _tags(trial: FrozenTrial, names: Names) -> dict[str, str]:
    """State, and the user attributes with the run's notes, passwords in addresses masked."""
    (shown,) = shown_trials([trial])
    attrs = masked(shown).user_attrs
    tags = {STATE: trial.state.name}
    if isinstance(device := attrs.get("device"), str):
        tags[DEVICE] = names.cut(DEVICE, device, LONGEST_TAG)
    for name, value in attrs.items():
        # With a prefix, since tags of other names have a meaning for MLflow.
        key = names.of(f"user_attrs.{name}")
        text = value if isinstance(value, str) else json.dumps(to_json_value(value))
        tags[key] = names.cut(key, text, LONGEST_TAG)
    return tags


def _inexact(metrics: Sequence[MetricPoint]) -> list[str]:
    """MLflow's databases have no infinity."""
    keys = {metric.key: metric.value for metric in metrics if math.isinf(metric.value)}
    return [f"{key} is {value}, which MLflow keeps as the largest number" for key, value in keys.items()]


def _milliseconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp() * 1000)
