"""A failure as one readable card: what happened, why, what to do, where to look."""

from __future__ import annotations

import functools
import logging
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import redact  # type: ignore[attr-defined]  # providers import it from here, too

from optuna_spark.errors import TuningError, error_class

log = logging.getLogger(__name__)

# Key of the XCom with the card of a failed task.
CARD = "failure_card"

P = ParamSpec("P")
R = TypeVar("R")
# In characters, with the frame: Airflow's log beside the grid is no wider on a usual screen.
WIDTH = 88
# The next step of a failure that knows none.
READ_LOG = "Read the log above this card from its first error on."


@dataclass(frozen=True)
class Failure:
    """Why a task failed.

    Attributes:
        what: One sentence.
        why: The cause, where it says more; may have several lines.
        next: What the reader can do.
        where: Where to look further.
        retry: Whether trying again can help.
    """

    what: str
    why: str = ""
    next: str = ""
    where: str = ""
    retry: bool = False


class TaskError(TuningError):
    """A failure that knows its card."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


def card(failure: Failure, title: str) -> str:
    """The failure as a box of lines, readable in any log.

    >>> print(card(Failure("No server answers.", next="Start it."), "provision_database failed"))
    ┌ provision_database failed
    │ What   No server answers.
    │ Next   Start it.
    └
    """
    rows = (("What", failure.what), ("Why", failure.why), ("Next", failure.next or READ_LOG), ("Where", failure.where))
    lines = [f"┌ {title}"]
    for label, text in rows:
        if text:
            lines += _rows(label, text)
    return "\n".join([*lines, "└"])


def describe_failure(error: TuningError) -> Failure:
    """The card of an error raised on purpose."""
    if isinstance(error, TaskError):
        return error.failure
    from optuna_spark.database.mysql_errors import is_refused  # a DAG file needs no database

    why = str(error.__cause__ or "")
    return Failure(
        what=str(error),
        why="" if why in str(error) else why,
        next=error.next,
        retry=error.retry and not is_refused(error),
    )


def driver_failure(report: Mapping[str, str] | None, where: str) -> Failure:
    """The card of a Spark driver that ended with an error.

    Args:
        report: What the driver left in its failure file (keys error, what, why, next), or None.
        where: Where its output is.
    """
    if not report:
        return Failure(
            what="the Spark application ended before it could say why",
            why="it was killed, ran out of memory, or could not start",
            next="Read the last lines of Spark's output above this card.",
            where=where,
            retry=True,
        )
    return Failure(
        what=report.get("what", ""),
        why=report.get("why", ""),
        next=report.get("next", ""),
        where=where,
        retry=error_class(report.get("error")).retry,
    )


def as_airflow_error(failure: Failure, title: str) -> AirflowException:
    """The exception that ends the task: without retries where they cannot help. The run's tab shows its card too."""
    text = "\n" + told_card(failure, title)
    return AirflowException(text) if failure.retry else AirflowFailException(text)


def told_card(failure: Failure, title: str) -> str:
    """The card of a failure, for the task's log; from now on it shows in the run's tab, too."""
    shown = card(failure, title)
    _keep_for_tab(shown)
    return shown


def _keep_for_tab(shown: str) -> None:
    """Store a card in the task's XComs, where the run's tab reads it, with secrets masked as in its log."""
    try:
        context = get_current_context()
    except RuntimeError:  # not in a task
        return
    try:
        context["ti"].xcom_push(key=CARD, value=masked(shown))
    except Exception as error:  # noqa: BLE001  # whatever Airflow's API client raises: the card itself counts
        log.info("The card is in this log only, and not in the run's tab: %s", type(error).__name__)


def masked(text: str) -> str:
    """The text with asterisks in place of the secrets that Airflow masks in a log.

    Airflow calls `mask_secret` its interface, but not `redact`: a test tells when that one changes.
    """
    return str(redact(text))


def readable_failures(function: Callable[P, R]) -> Callable[P, R]:
    """Let a task end in a card instead of a stack trace when it fails for a reason people can mend.

    Other errors are bugs and keep their stack trace.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TuningError as error:
            failure = as_airflow_error(describe_failure(error), f"{function.__name__} failed")
        raise failure

    return call


def _rows(label: str, text: str) -> list[str]:
    lines = [part for line in text.splitlines() for part in _WRAP.wrap(line) or [""]]
    return [f"│ {label if i == 0 else '':<6} {line}".rstrip() for i, line in enumerate(lines)]


# A path or an address stays whole, so that it can be copied, even if its line is too wide.
_WRAP = textwrap.TextWrapper(WIDTH - len("│ Where  "), break_long_words=False, break_on_hyphens=False)
