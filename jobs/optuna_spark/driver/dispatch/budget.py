"""How many trials a run may still start, and what ends it."""

from __future__ import annotations

from optuna.trial import TrialState

from optuna_spark.errors import TrialLimitError, TuningError
from optuna_spark.shown import last_line
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import broken_limit, early_end


class Budget:
    """Counts the trials of one run: finished plus started never exceeds the spec's `trials`. Not thread-safe.

    Attributes:
        finished: How many trials of the run are complete or pruned, earlier starts of the run included.
        failed: How many trials of the run failed, earlier starts included.
        pruned: How many of the finished ones are pruned.
        started: How many trials are running, or were sampled ahead.
        reason: Why no further trial is started although the budget is not spent; None while trials may start.
        error: Why the run failed; None while it has not.

    Args:
        spec: The run.
        finished, failed, pruned: The counts that earlier starts of the run left in the study.
    """

    def __init__(self, spec: TuningSpec, finished: int, failed: int, pruned: int = 0) -> None:
        self.finished, self.failed, self.pruned, self.started = finished, failed, pruned, 0
        self.reason: str | None = None
        self.error: TuningError | None = None
        self._spec = spec
        # The limits on failures count from this start on: with earlier failures a resumed run could fail at once.
        self._failed_now = self._failed_in_a_row = 0
        self._first_failure = ""

    @property
    def spent(self) -> int:
        return self.finished + (self.failed if self._spec.stop.failures_count else 0)

    @property
    def left(self) -> int:
        """How many trials may be started now."""
        return 0 if self.reason else max(0, self._spec.trials - self.spent - self.started)

    @property
    def over(self) -> bool:
        """Whether no trial will be started any more, however the running ones end."""
        return self.reason is not None or self.spent >= self._spec.trials

    @property
    def early_end(self) -> str | None:
        """Why the run ends although something is left to try; None if it does not."""
        return early_end(self.reason, self._spec.trials - self.spent)

    def start(self) -> None:
        self.started += 1

    def end(self, number: int, state: TrialState, error: str | None) -> None:
        """Count a started trial that ended as `state`."""
        self.started -= 1
        if state != TrialState.FAIL:
            self.finished += 1
            self.pruned += state == TrialState.PRUNED
            self._failed_in_a_row = 0
            return
        self._count_failure(number, error, self._failed_in_a_row + 1)

    def refuse(self, number: int, reason: str, in_a_row: int) -> None:
        """Count a finished trial as failed after all: the database has refused its data.

        Args:
            number: The trial.
            reason: Why.
            in_a_row: How many trials were refused since the last one that was stored as it ended.
        """
        self.finished -= 1
        self._count_failure(number, reason, max(in_a_row, self._failed_in_a_row))

    def lose(self) -> None:
        """Uncount a started trial whose worker died: it neither finished nor failed, and may be tried again."""
        self.started -= 1

    def cut(self) -> None:
        """Count a started trial that the run's end cut off. It failed, but no limit on failures is meant for it."""
        self.started -= 1
        self.failed += 1

    def stop(self, reason: str) -> None:
        """Start no further trial. The first reason is kept."""
        self.reason = self.reason or reason

    def go_on(self, reason: str) -> None:
        """Start trials again, if this is why none was started."""
        if self.reason == reason:
            self.reason = None

    def fail(self, error: TuningError) -> None:
        """End the run as failed. The first error is kept."""
        self.error = self.error or error
        self.stop(str(error))

    def _count_failure(self, number: int, error: str | None, in_a_row: int) -> None:
        self.failed += 1
        self._failed_now += 1
        self._failed_in_a_row = in_a_row
        self._first_failure = self._first_failure or f"trial {number}: {last_line(error)}"
        self._check_failures()

    def _check_failures(self) -> None:
        rule = broken_limit(self._spec.stop, self._failed_now, self._failed_in_a_row)
        if rule is not None:
            self.fail(TrialLimitError(f"{rule}; the first, {self._first_failure}"))
