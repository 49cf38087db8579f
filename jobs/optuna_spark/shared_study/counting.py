"""How a trial that has ended changes a run's counts, and what they then end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from optuna_spark.shared_study.tally import Tally, stopped
from optuna_spark.shown import last_line
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import BestTrial, broken_limit, is_forgiven, reaches_target
from optuna_spark.storage.trial_marks import error_of


def counts_of(spec: TuningSpec, trials: Sequence[FrozenTrial], mine: Sequence[FrozenTrial]) -> Tally:
    """The counts with which a start of a run begins: those of its earlier starts, from the study itself.

    Args:
        spec: The run.
        trials: All trials of the study.
        mine: Those of the run.
    """
    states = [trial.state for trial in mine if not is_forgiven(trial, spec.stop)]
    pruned, best = states.count(TrialState.PRUNED), BestTrial(spec)
    best.see_all(trials)
    tally = Tally(
        trials=spec.trials,
        failures_count=spec.stop.failures_count,
        finished=states.count(TrialState.COMPLETE) + pruned,
        failed=states.count(TrialState.FAIL),
        pruned=pruned,
        best_value=None if best.trial is None else best.trial.value,
        best_number=None if best.trial is None else best.trial.number,
    )
    return _with_target(spec, tally)


def counted(spec: TuningSpec, tally: Tally, trial: FrozenTrial) -> Tally:
    """The counts after one of the run's trials has ended."""
    if trial.state == TrialState.FAIL:
        # The trial is not to blame for a lost worker, so its first losses do not count.
        return tally if is_forgiven(trial, spec.stop) else _failed(spec, tally, trial)
    pruned = tally.pruned + (trial.state == TrialState.PRUNED)
    return _with_target(
        spec, _with_best(spec, replace(tally, finished=tally.finished + 1, pruned=pruned, failed_in_a_row=0), trial)
    )


def _failed(spec: TuningSpec, tally: Tally, trial: FrozenTrial) -> Tally:
    first = tally.first_failure or f"trial {trial.number}: {last_line(error_of(trial))}"
    tally = replace(
        tally,
        failed=tally.failed + 1,
        failed_now=tally.failed_now + 1,
        failed_in_a_row=tally.failed_in_a_row + 1,
        first_failure=first,
    )
    rule = broken_limit(spec.stop, tally.failed_now, tally.failed_in_a_row)
    return tally if rule is None else stopped(tally, f"{rule}; the first, {first}", broken=True)


def _with_best(spec: TuningSpec, tally: Tally, trial: FrozenTrial) -> Tally:
    value = trial.value if len(spec.directions) == 1 and trial.state == TrialState.COMPLETE else None
    if value is None or any(violation > 0 for violation in trial.constraints.values()):
        return tally
    best = tally.best_value
    if best is None or (value > best if spec.directions[0] == "maximize" else value < best):
        return replace(tally, best_value=value, best_number=trial.number)
    return tally


def _with_target(spec: TuningSpec, tally: Tally) -> Tally:
    if not reaches_target(spec, tally.best_value):
        return tally
    return stopped(tally, f"the target value {spec.stop.target_value:g} was reached")
