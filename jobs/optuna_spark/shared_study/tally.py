"""How far a run with `coordination: database` is. One row of the database holds it, for all its workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from optuna_spark.stop_and_retry import early_end


@dataclass(frozen=True)
class Tally:
    """The counts of one start of a run. Whoever ends a trial replaces them in the same transaction.

    Attributes:
        trials: How many trials the run has to finish.
        failures_count: Whether a failed trial uses up one of them.
        finished, failed: How many trials of the run did, its earlier starts included.
        pruned: How many of the finished ones are pruned.
        failed_now, failed_in_a_row: Failures of this start only, for the limits on failures.
        first_failure: The first of them, in words.
        best_value, best_number: The study's best trial; None with several directions, and before there is one.
        stop_reason: Why no further trial begins although some are left; None while trials may begin.
        broken: Whether the run has failed, for this reason.
    """

    trials: int
    failures_count: bool = False
    finished: int = 0
    failed: int = 0
    pruned: int = 0
    failed_now: int = 0
    failed_in_a_row: int = 0
    first_failure: str = ""
    best_value: float | None = None
    best_number: int | None = None
    stop_reason: str | None = None
    broken: bool = False

    @property
    def spent(self) -> int:
        return self.finished + (self.failed if self.failures_count else 0)

    @property
    def over(self) -> bool:
        """Whether no further trial begins, however the running ones end."""
        return self.stop_reason is not None or self.spent >= self.trials

    @property
    def early_end(self) -> str | None:
        """Why the run ends although something is left to try; None if it does not."""
        return early_end(self.stop_reason, self.trials - self.spent)

    def left(self, running: int) -> int:
        """How many trials may begin now, while so many run."""
        return 0 if self.over else max(0, self.trials - self.spent - running)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Tally:
        return cls(**json.loads(text))


def stopped(tally: Tally, reason: str, *, broken: bool = False) -> Tally:
    """The counts of a run that starts no further trial. The first reason is kept, unless the run fails."""
    if tally.broken or (tally.stop_reason is not None and not broken):
        return tally
    return replace(tally, stop_reason=reason, broken=broken)
