"""Optuna's percentile pruners on arrays: the same decisions from all trials, in a fraction of the time."""

from __future__ import annotations

from array import array
from collections import defaultdict

import numpy as np
from optuna import Study
from optuna.pruners import MedianPruner, PercentilePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.sampling.history import HistoryStorage


class StepValues:
    """What complete trials have reported, by step. Reads each trial once. Not thread-safe.

    Args:
        storage: The study's.

    Attributes:
        storage: The same.
        complete: How many trials are complete.
    """

    def __init__(self, storage: HistoryStorage) -> None:
        self.storage, self.complete = storage, 0
        self._position = 0
        self._values: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))

    def look(self) -> None:
        """Read the trials that have ended since the last look."""
        for after, number in self.storage.changes.since(self._position):
            self._position = after
            trial = self.storage.get_trial(number)
            if trial.state == TrialState.COMPLETE:
                self.complete += 1
                for step, value in trial.intermediate_values.items():
                    self._values[step].append(value)

    def percentile(self, step: int, percentile: float, least: int) -> float:
        """The percentile of what was reported at a step, without NaN; NaN if fewer than `least` trials reported it."""
        values = self._values.get(step, array("d"))
        return float("nan") if len(values) < max(least, 1) else float(np.nanpercentile(np.array(values), percentile))


class ArrayPercentilePruner(PercentilePruner):
    """Decides what `optuna.pruners.PercentilePruner` decides, from the same arguments and trials.

    Optuna's method goes through all trials in Python for each report. Studies in another storage are left to it. Not
    thread-safe.
    """

    _seen: StepValues | None = None

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        storage, step = study._storage, trial.last_step
        if not isinstance(storage, HistoryStorage):
            return super().prune(study, trial)
        if self._seen is None or self._seen.storage is not storage:
            self._seen = StepValues(storage)
        self._seen.look()
        if step is None or not self._seen.complete or self._seen.complete < self._n_startup_trials:
            return False
        if step < self._n_warmup_steps or not self._is_first_in_interval(step, trial):
            return False
        own = np.fromiter(trial.intermediate_values.values(), dtype=float)
        if np.isnan(own).all():
            return True
        maximize = study.direction == StudyDirection.MAXIMIZE
        share = 100 - self._percentile if maximize else self._percentile
        limit = self._seen.percentile(step, share, self._n_min_trials)
        return bool(np.nanmax(own) < limit if maximize else np.nanmin(own) > limit)

    def _is_first_in_interval(self, step: int, trial: FrozenTrial) -> bool:
        start = (step - self._n_warmup_steps) // self._interval_steps * self._interval_steps + self._n_warmup_steps
        return start == step or all(other < start for other in trial.intermediate_values if other != step)


class ArrayMedianPruner(ArrayPercentilePruner, MedianPruner):
    """Decides what `optuna.pruners.MedianPruner` decides."""
