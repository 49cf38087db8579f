"""Checks of what an objective sets on its trial: Optuna's own rules, and the limits of Optuna's tables in MySQL."""

from __future__ import annotations

import json
import re
from typing import Any

from optuna_spark.storage.empty_study import METRIC_NAMES

# The columns are of type TEXT, VARCHAR(512) and INTEGER.
TEXT_BYTES = 65_535
NAME_LENGTH = 512
ERROR_CHARACTERS = 5000  # of an error's text: as JSON a character takes 12 bytes at most
CONSTRAINT_LENGTH = NAME_LENGTH - 32  # Optuna puts a prefix before the name of a constraint
MAX_DEPTH = 64  # levels of lists and objects in one message
ATTR_DEPTH = MAX_DEPTH - 8  # the message around an attribute takes a few levels itself
MAX_STEP = 2**31 - 1

# The system attributes that Optuna's helpers set for an objective. No others: a sampler in the driver trusts its own
# (CmaEsSampler unpickles them), and the run's bookkeeping is among them.
ARTIFACT = re.compile(r"artifacts:[0-9A-Za-z-]{1,64}")
SCORES = "terminator:cv_scores"


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


def check_name(name: str, longest: int = NAME_LENGTH) -> None:
    if len(name) > longest:
        raise ValueError(f"a name must be at most {longest} characters, got {len(name)}: {name[:40]!r}...")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a name must be text that UTF-8 can hold, got {name[:40]!r}") from None


def check_distribution(text: str) -> None:
    """Refuse a distribution, given as JSON, that the database cannot hold."""
    # JSON from `json.dumps` is ASCII, so its characters are its bytes; the same holds in attr_text.
    if len(text) > TEXT_BYTES:
        raise ValueError(
            f"a distribution must be at most {TEXT_BYTES} bytes of JSON, got {len(text)}: use fewer choices"
        )


def attr_text(key: str, value: Any) -> str:
    """An attribute as JSON.

    Raises:
        TypeError: JSON cannot hold it, as with Optuna's RDBStorage.
        ValueError: It is too long, or nested too deeply.
    """
    text = json.dumps(value)
    if len(text) > TEXT_BYTES:
        raise ValueError(f"attribute {key!r} must be at most {TEXT_BYTES} bytes of JSON, got {len(text)}")
    if text.count("[") + text.count("{") > ATTR_DEPTH and depth(json.loads(text)) > ATTR_DEPTH:
        raise ValueError(f"attribute {key!r} must be nested at most {ATTR_DEPTH} levels deep")
    return text


def check_trial_system_attr(key: str, value: Any) -> None:
    """Refuse a system attribute that an objective may not set on its trial."""
    attr_text(key, value)
    if key == SCORES:
        if not isinstance(value, list) or not all(isinstance(v, int | float) for v in value):
            raise ValueError(f"{SCORES} must be a list of numbers, got {value!r:.80}")
    elif not ARTIFACT.fullmatch(key) or not isinstance(value, str):
        raise ValueError(f"an objective cannot set system attribute {key[:80]!r} of its trial: use set_user_attr")


def check_study_system_attr(key: str, value: Any) -> None:
    """Refuse a system attribute that an objective may not set on its study."""
    attr_text(key, value)
    if key == METRIC_NAMES:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"the metric names must be a list of texts, got {value!r:.80}")
    elif not ARTIFACT.fullmatch(key) or not isinstance(value, str):
        raise ValueError(f"an objective cannot set system attribute {key[:80]!r} of its study: use set_user_attr")


def depth(value: object) -> int:
    """How deeply lists and dicts are nested; 0 for a number."""
    found, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        found += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return found
