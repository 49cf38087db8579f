"""Why a run failed, as plain data: what, why, what to do next."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

from optuna_spark.errors import TuningError, error_text

FAILURE_VARIABLE = "TUNING_FAILURE_FILE"

_NEXT = {
    "SpecError": "Correct the study file or the trigger form, then run again.",
    "StudyMismatchError": "Use another study name, or trigger with mode reset.",
    "StudyNameError": "Choose a study name that differs from the other one in more than capital letters.",
    "StorageError": "Correct the database connection, then run again: finished trials are kept.",
    "WriterDiedError": "See whether the driver's machine ran out of memory, then run again: finished trials are kept.",
    "DataError": "Correct data in the study file, then run again.",
    "DeviceError": "Check the cluster's GPUs, or set resources.gpus_per_task to 0 for the CPU.",
    "RunEndedError": "Start the run again: it goes on, and tries again what was running.",
    "TrialLimitError": "Correct the objective or the search space, then run again: finished trials are kept.",
}
_FALLBACK = "Read the log above this card from its first error on."


def describe_failure(error: BaseException) -> dict[str, str]:
    """The first real cause of a failure: keys error, what, why, next."""
    if isinstance(error, TuningError):
        what, why = str(error), str(error.__cause__ or "")
    else:
        what, why = _first_cause(error), error_text(error)
    kind = type(error).__name__
    what, *rest = what.splitlines() or [kind]
    return {
        "error": kind,
        "what": what,
        "why": "\n".join(rest) or why,
        "next": _NEXT.get(kind, _FALLBACK),
    }


def write_failure(failure: dict[str, str]) -> None:
    """Leave the failure where the caller asked for it, if it did."""
    path = os.environ.get(FAILURE_VARIABLE)
    if path:
        # A task that ran out of time takes its folder away before it ends this program.
        with contextlib.suppress(FileNotFoundError):
            Path(path).write_text(json.dumps(failure), encoding="utf-8")


def _first_cause(error: BaseException) -> str:
    """The sentence inside Spark's stack: the last Python exception, else the innermost `Caused by`."""
    text = str(error)
    python = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception|Exit)): (.+)$", text, re.MULTILINE)
    if python:
        return ": ".join(python[-1])
    caused = re.findall(r"^Caused by: (.+)$", text, re.MULTILINE)
    return str(caused[-1] if caused else text.splitlines()[0] if text else type(error).__name__)
