"""The time that running trials have once their run was told to end."""

from __future__ import annotations

import logging
import math
import time

from optuna_spark.driver.progress import PREFIX
from optuna_spark.shown import duration

log = logging.getLogger(__name__)


class Grace:
    """Counts the time from the moment at which a run is first seen to be told to end.

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
        return f"the run was {self._reason}, and this trial did not end within grace_s ({self._seconds:g} s)"

    def is_over(self, reason: str) -> bool:
        """Whether the time is over. The first call begins it.

        Args:
            reason: Why the run was told to end.
        """
        if math.isinf(self._until):
            self._until, self._reason = time.monotonic() + self._seconds, reason
            log.info("%s The run is %s: running trials have %s to end", PREFIX, reason, duration(self._seconds))
        return self.left_s <= 0
