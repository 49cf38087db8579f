"""The time that running trials have once their run is to end before its trials are spent, whatever the reason."""

from __future__ import annotations

import logging
import math
import time

from optuna_spark.driver.progress import PREFIX
from optuna_spark.shown import duration
from optuna_spark.stop_and_retry import CUT_OFF

log = logging.getLogger(__name__)


class Grace:
    """Counts the time from the moment at which a run is first seen to end early.

    Args:
        seconds: How long running trials may go on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._reason = seconds, ""
        self._until = math.inf

    @property
    def left_s(self) -> float:
        """Seconds until the time is over; infinite before it began."""
        return max(0.0, self._until - time.monotonic())

    @property
    def error(self) -> str:
        """The error of a trial that used up the time."""
        return f"the run {how(self._reason)}, and {CUT_OFF} ({self._seconds:g} s)"

    def is_over(self, reason: str) -> bool:
        """Whether the time is over. The first call begins it.

        Args:
            reason: Why the run ends early.
        """
        if math.isinf(self._until):
            self._until, self._reason = time.monotonic() + self._seconds, reason
            log.info("%s The run %s: running trials have %s to end", PREFIX, how(reason), duration(self._seconds))
        return self.left_s <= 0

    def forget(self) -> None:
        """Let the time begin anew with the next reason: the run goes on after all."""
        self._until = math.inf


def how(reason: str) -> str:
    """A reason as the end of a sentence that begins with the run."""
    return f"was {reason}" if reason.startswith("finished early") else f"ends early: {reason}"
