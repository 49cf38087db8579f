"""How many trials a run may still start, and what ends it."""

from __future__ import annotations

from optuna.trial import TrialState

from optuna_spark.errors import TrialLimitError, TuningError
from optuna_spark.shown import shown
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import broken_limit


class Budget:
    """Counts the trials of one run: finished plus started never exceeds the spec's `trials`. Not thread-safe.

    Attributes:
        finished: Trials of the run that are complete or pruned, those of an earlier start included.
        failed: Trials of the run that failed, likewise.
        started: Trials that are being run, or sampled for a worker to come.
        reason: Why no further trial is started although the budget is not spent; None while that is not so.
        error: Why the run has failed, if it has.

    Args:
        spec: The run.
        finished, failed: What earlier starts of the run have left in the study.
    """

    def __init__(self, spec: TuningSpec, finished: int, failed: int) -> None:
        self.finished, self.failed, self.started = finished, failed, 0
        self.reason: str | None = None
        self.error: TuningError | None = None
        self._spec = spec
        self._failed_now = self._failed_in_a_row = 0
        self._first_failure = ""

    @property
    def spent(self) -> int:
        return self.finished + (self.failed if self._spec.stop.failures_count else 0)

    @property
    def left(self) -> int:
        """Trials that may be started now."""
        return 0 if self.reason else max(0, self._spec.trials - self.spent - self.started)

    @property
    def over(self) -> bool:
        """Whether no trial will be started any more, whatever becomes of the running ones."""
        return self.reason is not None or self.spent >= self._spec.trials

    def start(self) -> None:
        self.started += 1

    def end(self, number: int, state: TrialState, error: str | None) -> None:
        """A started trial ended by itself."""
        self.started -= 1
        if state != TrialState.FAIL:
            self.finished += 1
            self._failed_in_a_row = 0
            return
        self.failed += 1
        self._failed_now += 1
        self._failed_in_a_row += 1
        self._first_failure = self._first_failure or f"trial {number}: {_last_line(error)}"
        self._check_failures()

    def lose(self) -> None:
        """A started trial's worker died, and the trial will be tried again or was never begun."""
        self.started -= 1

    def stop(self, reason: str) -> None:
        """Start no further trial; the first reason stays."""
        self.reason = self.reason or reason

    def fail(self, error: TuningError) -> None:
        """End the run as failed; the first error stays."""
        self.error = self.error or error
        self.stop(str(error))

    def _check_failures(self) -> None:
        rule = broken_limit(self._spec.stop, self._failed_now, self._failed_in_a_row)
        if rule is not None:
            self.fail(TrialLimitError(f"{rule}; the first, {self._first_failure}"))


def _last_line(error: str | None) -> str:
    """What a traceback says: its last line; all of it is an attribute of the trial."""
    lines = (error or "").strip().splitlines()
    return shown(lines[-1]) if lines else "no reason was given"
