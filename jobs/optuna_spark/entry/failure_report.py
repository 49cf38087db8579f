"""A failure as plain data: what failed, why, and what to do next. The Airflow side shows it as a card."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from optuna_spark.errors import TuningError, error_text

FAILURE_VARIABLE = "TUNING_FAILURE_FILE"

_FALLBACK = "Read the log above this card from its first error on."


def describe_failure(error: BaseException) -> dict[str, str]:
    """Describe the first real cause of a failure, with the keys error (its class), what, why and next."""
    if isinstance(error, TuningError):
        what, why, following = str(error), str(error.__cause__ or ""), error.next
    else:
        what, why, following = _first_cause(error), error_text(error), ""
    kind = type(error).__name__
    what, *rest = what.splitlines() or [kind]
    return {
        "error": kind,
        "what": what,
        "why": "\n".join(rest) or why,
        "next": following or _FALLBACK,
    }


def write_failure(failure: dict[str, str]) -> None:
    """Write the failure to the file that the caller named in the environment, if it named one."""
    path = os.environ.get(FAILURE_VARIABLE)
    if path:
        # A task that runs out of time removes its folder before it ends this program.
        with contextlib.suppress(FileNotFoundError):
            Path(path).write_text(json.dumps(failure), encoding="utf-8")


def _first_cause(error: BaseException) -> str:
    """The cause inside Spark's stack trace: the last Python exception, else the last `Caused by`, else the error."""
    text = str(error)
    python = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception|Exit)): (.+)$", text, re.MULTILINE)
    if python:
        return ": ".join(python[-1])
    caused = re.findall(r"^Caused by: (.+)$", text, re.MULTILINE)
    if caused:
        return str(caused[-1])
    # The class first: the text alone may be a name (KeyError) or a line of code.
    said = text.strip().splitlines()
    return f"{type(error).__name__}: {said[0].strip()}" if said else type(error).__name__
