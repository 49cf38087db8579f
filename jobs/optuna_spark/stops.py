"""Optuna's terminator, asked over a list of trials."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from optuna.study import StudyDirection
from optuna.terminator import BestValueStagnationEvaluator
from optuna.trial import FrozenTrial, TrialState

MIN_TRIALS = 20  # as optuna.terminator.Terminator's default


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
