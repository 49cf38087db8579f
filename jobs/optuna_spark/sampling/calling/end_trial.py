"""Ends a trial as `study.tell` does, but for a sampler that fails on it: then the trial fails, too."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from optuna import Study
from optuna.pruners import _filter_study
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import TuningError
from optuna_spark.sampling.calling.components import Components
from optuna_spark.storage.trial_marks import failed
from optuna_spark.wire.messages import Outcome

log = logging.getLogger(__name__)


def end_trial(study: Study, number: int, outcome: Outcome, components: Components) -> Outcome:
    """End a running trial of a storage whose ids are the trials' numbers.

    Args:
        study: The study with its sampler.
        number: The trial.
        outcome: How it ended. It has as many values as the study has directions if it is complete, else none.
        components: Names the sampler.

    Returns:
        The outcome as it is stored: failed where the sampler raised an error.
    """
    storage = study._storage
    study._thread_local.cached_all_trials = None  # as `study.tell` does: it is right within a trial only
    trial = storage.get_trial(number)
    values = _values(trial, outcome, len(study.directions))
    try:
        shown = _filter_study(study, trial)
        shown.sampler.after_trial(shown, trial, outcome.state, values)
    except TuningError:
        raise
    except Exception as error:
        log.exception("The sampler failed on trial %s", number)
        if outcome.state != TrialState.FAIL:  # whose own error counts
            outcome, values = Outcome(TrialState.FAIL, error=components.failure(error)), None
    for name, note in ({} if outcome.error is None else failed(outcome.error)).items():
        storage.set_trial_system_attr(number, name, note)
    storage.set_trial_state_values(number, outcome.state, values)
    return outcome


def _values(trial: FrozenTrial, outcome: Outcome, directions: int) -> Sequence[float] | None:
    """What is stored: as in Optuna the last report of a pruned trial, where that is one value and a number."""
    if outcome.state != TrialState.PRUNED:
        return None if outcome.values is None else [float(value) for value in outcome.values]
    last = math.nan if trial.last_step is None else trial.intermediate_values[trial.last_step]
    return None if directions > 1 or math.isnan(last) else [float(last)]
