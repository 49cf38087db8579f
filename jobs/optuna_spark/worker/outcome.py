"""How a trial ended, as a worker reports it, and where a worker gets its trials from."""

from __future__ import annotations

import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import TrialState

ERROR_LINES = 12
# The error attribute of a trial whose worker went away without a word.
LOST = "the worker that ran this trial died"


@dataclass(frozen=True)
class Outcome:
    """The end of a trial.

    Attributes:
        state: COMPLETE, PRUNED or FAIL.
        values: One value per direction of the study when COMPLETE, else None.
        error: Last lines of the traceback when FAIL, else None.
    """

    state: TrialState
    values: tuple[float, ...] | None = None
    error: str | None = None


class TrialSource(Protocol):
    """Where a worker pulls its trials from: the driver, or the database."""

    def ask(self) -> Any | None:
        """The next trial, with Optuna's Trial interface; None when nothing is left for this worker."""

    def tell(self, trial: Any, outcome: Outcome) -> None:
        """Record how a trial ended. It is durable before a further one is told."""

    def close(self) -> None:
        """Leave; safe to call twice."""


def complete(result: object, n_values: int) -> Outcome:
    """The outcome of an objective that returned.

    A result that is not `n_values` finite-or-infinite numbers is a failed trial, as in Optuna.
    """
    raw = list(result) if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    if len(raw) != n_values:
        return failed(f"the objective must return {n_values} value(s), got {len(raw)}: {result!r}")
    try:
        values = tuple(float(v) for v in raw)  # type: ignore[arg-type]  # anything may come from a user's function
    except (TypeError, ValueError):
        return failed(f"the objective must return a number, got {result!r}")
    if any(math.isnan(v) for v in values):
        return failed(f"the objective must not return NaN, got {result!r}")
    return Outcome(TrialState.COMPLETE, values)


def failed(reason: str) -> Outcome:
    return Outcome(TrialState.FAIL, error=reason)


def error_place(error: BaseException) -> str:
    """What an exception was and where, without its text: that may quote a file whose path came from a run's form."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" in {last[0].filename}, line {last[0].lineno}" if last else ""
    return f"{type(error).__name__}{place} (the text is not shown, because this run's form gave data.path)"


def error_text(error: BaseException) -> str:
    """The last lines of an exception's traceback: what a person reads first."""
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    return "\n".join(lines[-ERROR_LINES:])
