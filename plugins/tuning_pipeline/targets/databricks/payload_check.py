"""Strict checks of what is sent to Databricks: its API silently ignores keys that it does not know."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from databricks.sdk.service.jobs import JobsAPI, JobSettings, SubmitTask

from optuna_spark.errors import SpecError


def check_run(payload: Mapping[str, Any]) -> None:
    """Check the body of a jobs/runs/submit call.

    Raises:
        SpecError: databricks-sdk does not know a key or value. Names its path.
    """
    known = set(inspect.signature(JobsAPI.submit).parameters) - {"self"}
    lost = [key for key in payload if key not in known]
    for number, task in enumerate(payload.get("tasks", [])):
        lost += [f"tasks[{number}].{path}" for path in lost_keys(task, _round_trip(SubmitTask, task))]
    _raise_for(lost)


def check_job(definition: Mapping[str, Any]) -> None:
    """Check the body of a jobs/create call.

    Raises:
        SpecError: databricks-sdk does not know a key or value. Names its path.
    """
    _raise_for(lost_keys(definition, _round_trip(JobSettings, definition)))


def lost_keys(sent: Any, kept: Any, path: str = "") -> list[str]:
    """The paths in `sent` whose values are missing or different in `kept`."""
    if isinstance(sent, Mapping) and isinstance(kept, Mapping):
        lost = []
        for key, value in sent.items():
            here = f"{path}.{key}" if path else str(key)
            lost += lost_keys(value, kept[key], here) if key in kept else [here]
        return lost
    if isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        pairs = enumerate(zip(sent, kept, strict=True))
        return [lost for i, (left, right) in pairs for lost in lost_keys(left, right, f"{path}[{i}]")]
    return [] if type(sent) is type(kept) and sent == kept else [path]


def _round_trip(kind: Any, data: Mapping[str, Any]) -> Any:
    # The SDK's class keeps only what it knows, so the difference is what it does not know.
    try:
        return kind.from_dict(data).as_dict()
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise SpecError(f"the Databricks payload has a value of the wrong kind: {error}") from error


def _raise_for(lost: list[str]) -> None:
    if lost:
        raise SpecError(
            f"Databricks knows no such key or value: {', '.join(lost)}; correct databricks.cluster in the study file"
        )
