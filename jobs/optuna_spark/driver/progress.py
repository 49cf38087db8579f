"""Where a run stands, and the line of the driver's log that shows it every few seconds."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from optuna_spark.shown import duration

PREFIX = "[tuning]"
# Environment variable with a file in which the run's watcher, such as Airflow's task, reads where the run stands.
PROGRESS_VARIABLE = "TUNING_PROGRESS_FILE"


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands.

    Attributes:
        total: How many trials the run has to finish.
        finished: How many trials of this run are complete or pruned.
        failed: How many trials of this run failed.
        running: How many trials run now.
        elapsed_s: Seconds since this start of the run.
        finished_before: How many trials earlier starts of this run had finished.
        best_value: Best value of the study so far; None with several directions, or before the first complete trial.
        best_number: Number of the trial with that value.
        pruned: How many of the finished trials are pruned.
    """

    total: int
    finished: int
    failed: int
    running: int
    elapsed_s: float
    finished_before: int = 0
    best_value: float | None = None
    best_number: int | None = None
    pruned: int = 0

    @property
    def rate(self) -> float:
        """Trials that this start of the run finishes in a second."""
        # Trials of earlier starts took none of this start's time.
        new = self.finished - self.finished_before
        return new / self.elapsed_s if self.elapsed_s > 0 else 0.0


def write_progress(snapshot: Snapshot) -> None:
    """Write where the run stands to the file that the caller named in the environment, if it named one."""
    if path := os.environ.get(PROGRESS_VARIABLE):
        part = Path(f"{path}.part")
        # A task that runs out of time removes its folder before it ends this program.
        with contextlib.suppress(OSError):
            part.write_text(json.dumps({**vars(snapshot), "rate": snapshot.rate}), encoding="utf-8")
            part.replace(path)


def progress_line(snapshot: Snapshot) -> str:
    """One line for a person: finished/total trials, best value, rate, time left."""
    parts = [f"{PREFIX} {snapshot.finished}/{snapshot.total} trials"]
    if snapshot.best_value is not None:
        parts.append(f"best {snapshot.best_value:.6g} (trial {snapshot.best_number})")
    if snapshot.failed:
        parts.append(f"{snapshot.failed} failed")
    parts.append(f"{snapshot.running} running")
    rate = snapshot.rate
    if rate:
        parts.append(f"{rate:.2g} trials/s" if rate < 10 else f"{rate:.0f} trials/s")
        left_s = (snapshot.total - snapshot.finished) / rate
        parts.append(f"about {duration(left_s)} left")
    return ", ".join(parts)
