"""What a workspace takes and what not, judged by databricks-sdk alone and not by the product's own check."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any

from databricks.sdk.service.jobs import JobsAPI, JobSettings, SubmitTask

Leaf = tuple[tuple[str | int, ...], str]


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Every value of a JSON document with the way to it; an empty object or list is a value too."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*at, name))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*at, number))
    else:
        yield at, f"{type(value).__name__} {value!r}"


def refuse_unknown(kind: Any, document: dict[str, Any]) -> None:
    """Refuse a document that this class of databricks-sdk does not give back whole.

    Raises:
        ValueError: With each way to a value that is lost, changed or added.
    """
    before, after = set(leaves(document)), set(leaves(kind.from_dict(document).as_dict()))
    if before != after:
        raise ValueError(f"{kind.__name__} does not keep {sorted(map(str, before ^ after))}")


def refuse_bad_submission(body: dict[str, Any]) -> None:
    """Refuse a body of jobs/runs/submit that has a field the service does not know.

    Raises:
        ValueError: With the fields.
    """
    unknown = body.keys() - signature(JobsAPI.submit).parameters.keys()
    if unknown or not body.get("tasks"):
        raise ValueError(f"unknown fields {sorted(unknown)}, or no tasks")
    for name, kind in (("run_name", str), ("idempotency_token", str), ("timeout_seconds", int)):
        if type(body[name]) is not kind:
            raise ValueError(f"{name} must be {kind.__name__}, got {body[name]!r}")
    for task in body["tasks"]:
        refuse_unknown(SubmitTask, task)


def refuse_bad_job(body: dict[str, Any]) -> None:
    """Refuse a body of jobs/create that has a field the service does not know.

    Raises:
        ValueError: With the fields.
    """
    refuse_unknown(JobSettings, body)
