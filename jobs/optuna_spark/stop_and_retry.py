"""What ends a run early, and which trials are tried again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import cast

from optuna.study import StudyDirection
from optuna.terminator import BestValueStagnationEvaluator
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.spec.sections import StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_marks import error_of, marks_of, run_id_of

MIN_TRIALS = 20  # as optuna.terminator.Terminator's default
# The error of a trial whose worker went away without a word.
LOST = "the worker that ran this trial died"
# Part of the error of a trial that the early end of its run cut off.
CUT_OFF = "this trial did not end within grace_s"
# Why a run ends whose sampler has nothing more to try. As after its last trial, running ones may take their time.
EXHAUSTED = "the sampler has tried all combinations of its search space"


def early_end(reason: str | None, left: int) -> str | None:
    """Why a run ends although something is left to try; None if it does not.

    Args:
        reason: Why no further trial begins; None while trials may begin.
        left: How many trials the run has still to finish.
    """
    return None if reason == EXHAUSTED or left <= 0 else reason


def stopped_by(worker: str) -> str:
    """Why a run ends whose objective called `study.stop()`."""
    return f"the objective in worker {worker} called study.stop()"


class BestTrial:
    """Keeps the best feasible trial of a study with one direction.

    Attributes:
        trial: The best so far; None before the first, and with several directions.
    """

    def __init__(self, spec: TuningSpec) -> None:
        self.trial: FrozenTrial | None = None
        self._single = len(spec.directions) == 1
        self._maximize = spec.directions[0] == "maximize"
        self._spec = spec

    def see_all(self, trials: Sequence[FrozenTrial]) -> None:
        for trial in trials:
            self.see(trial)

    def see(self, trial: FrozenTrial) -> None:
        if not self._single or trial.state != TrialState.COMPLETE:
            return
        if any(violation > 0 for violation in trial.constraints.values()):
            return
        if self.trial is None or self._better(_value(trial), _value(self.trial)):
            self.trial = trial

    @property
    def reaches_target(self) -> bool:
        return reaches_target(self._spec, self.trial.value if self.trial else None)

    def _better(self, value: float, other: float) -> bool:
        return value > other if self._maximize else value < other


def reaches_target(spec: TuningSpec, value: float | None) -> bool:
    """Whether `value`, of a study with one direction, is as good as the spec's target value, if it has one."""
    target = spec.stop.target_value
    if target is None or value is None:
        return False
    return value >= target if spec.directions[0] == "maximize" else value <= target


def _value(trial: FrozenTrial) -> float:
    return cast(float, trial.value)  # complete trials have one


def should_terminate(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> bool:
    """Whether the best value has stagnated for longer than Optuna's evaluator allows (30 trials).

    Of Optuna's evaluators this is the one that needs neither torch nor cross-validation scores. It is asked
    directly, because Terminator copies the whole study twice for each question.
    """
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    if len(complete) < MIN_TRIALS or len(directions) > 1:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, and optuna.terminator goes in Optuna 6
        evaluator = BestValueStagnationEvaluator()
    return evaluator.evaluate(complete, directions[0]) < 0


def broken_limit(stop: StopSpec, failed: int, in_a_row: int) -> str | None:
    """Which limit on failures is reached, in words; None when none is."""
    if stop.max_failures is not None and failed >= stop.max_failures:
        return f"{failed} trials failed, stop.max_failures is {stop.max_failures}"
    if in_a_row >= stop.max_consecutive_failures:
        return f"{in_a_row} trials failed in a row, stop.max_consecutive_failures is {stop.max_consecutive_failures}"
    return None


def is_forgiven(trial: FrozenTrial, stop: StopSpec) -> bool:
    """Whether a trial failed because its worker died, and not too often yet."""
    lost = trial.state == TrialState.FAIL and error_of(trial) == LOST
    return lost and (marks_of(trial).retries or 0) < stop.max_retries


def was_interrupted(trial: FrozenTrial, spec: TuningSpec) -> bool:
    """Whether a failed trial says nothing of its parameters, and no other trial takes them over by itself.

    The end of its run cut it off, or its worker died in another run. This run queues the parameters of its own ones.
    """
    if run_id_of(trial) != spec.run_id and is_forgiven(trial, spec.stop):
        return True
    return CUT_OFF in (error_of(trial) or "")
