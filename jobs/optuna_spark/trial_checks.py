"""What a trial takes from an objective: what Optuna takes, within the limits of its tables in MySQL."""

from __future__ import annotations

import json
from typing import Any

# The columns' types: TEXT, VARCHAR(512), INTEGER.
TEXT_BYTES = 65_535
NAME_LENGTH = 512
MAX_STEP = 2**31 - 1


def as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"The `value` argument is of type '{type(value)}' but supposed to be a float.") from None


def as_step(step: Any) -> int:
    try:
        number = int(step)
    except (TypeError, ValueError):
        raise TypeError(f"The `step` argument is of type '{type(step)}' but supposed to be an int.") from None
    if number < 0:
        raise ValueError(f"`step={number}` must be non-negative.")
    if number > MAX_STEP:
        raise ValueError(f"`step={number}` must be at most {MAX_STEP}.")
    return number


def check_name(name: str) -> None:
    if len(name) > NAME_LENGTH:
        raise ValueError(f"a name must be at most {NAME_LENGTH} characters, got {len(name)}: {name[:40]!r}...")


def attr_size(key: str, value: Any) -> int:
    """The bytes of a user attribute as JSON.

    Raises:
        TypeError: JSON cannot hold it, as with Optuna's RDBStorage.
        ValueError: It is too long.
    """
    size = len(json.dumps(value))
    if size > TEXT_BYTES:
        raise ValueError(f"user attribute {key!r} must be at most {TEXT_BYTES} bytes of JSON, got {size}")
    return size
