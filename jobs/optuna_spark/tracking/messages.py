"""What the driver, or Airflow, and the process that talks to MLflow say to each other over their pipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from optuna_spark.tracking.target import TrackingTarget


@dataclass(frozen=True)
class Mirror:
    """Mirror the trials of a run that follow, each in a message of its own, until Ended."""

    target: TrackingTarget
    run_id: str


@dataclass(frozen=True)
class Ended:
    """The run has ended. `well`: with all its trials spent."""

    well: bool


@dataclass(frozen=True)
class Answers:
    """Whether the server answers; said whenever that changes.

    Attributes:
        problem: Why it does not; empty when it does again.
    """

    problem: str = ""


@dataclass(frozen=True)
class AskMirrored:
    """Which runs of the study are mirrored already? The answer is a dict: how many trials, by the run's id."""

    target: TrackingTarget


@dataclass(frozen=True)
class Sync:
    """Write what is missing of a run's trials. The answer is Synced.

    Attributes:
        target: The study.
        run_id: The run.
        trials: All its finished trials.
        limit_s: Seconds after which it is given up.
        patience_s: The same for a server that does not answer.
    """

    target: TrackingTarget
    run_id: str
    trials: Sequence[FrozenTrial]
    limit_s: float
    patience_s: float


@dataclass(frozen=True)
class Synced:
    """How many trials were written, how many were there before, and why the others are not, if there are others."""

    written: int = 0
    before: int = 0
    problem: str = ""
