"""The results of a study: its best trials, and the parameters to use.

Imports Optuna and the standard library only, because the Airflow side imports it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import ExportError
from optuna_spark.results.trial_rows import to_json_value
from optuna_spark.storage.trial_marks import error_of, run_id_of


def best_trials(study: optuna.Study, top_k: int) -> list[FrozenTrial]:
    """The trials worth keeping, best first.

    Args:
        study: The study.
        top_k: How many trials at most, for one direction; a Pareto front is always returned whole.

    Returns:
        One direction: the `top_k` best complete trials by value, the earlier one first where values are equal.
        Several directions: the Pareto front, ordered by the first value, then the second and so on. Trials that
        break a constraint are left out.

    Raises:
        ExportError: `top_k` is below 1, or the study has no complete trial that keeps its constraints.
    """
    if top_k < 1:
        raise ExportError(f"top_k must be at least 1, got {top_k}")
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise ExportError(_nothing_complete(study))
    feasible = [t for t in complete if all(v <= 0 for v in t.constraints.values())]
    if not feasible:
        raise ExportError(
            f"none of the {len(complete)} complete trials of study {study.study_name!r} keeps its constraints;"
            " run more trials or loosen the constraints"
        )
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda t: _order(t, study.directions))
    return sorted(feasible, key=lambda t: _order(t, study.directions))[:top_k]


def best_params(study: optuna.Study, run_id: str) -> dict[str, Any]:
    """The content of best_params.json: the best trial of the study, as values that JSON can hold.

    With several directions it is the Pareto trial with the best first value, and `value` is None.

    Raises:
        ExportError: The study has no complete trial that keeps its constraints.
    """
    best = best_trials(study, 1)[0]
    values = [to_json_value(v) for v in best.values]
    return {
        "study": study.study_name,
        "run_id": run_id,
        "value": values[0] if len(values) == 1 else None,
        "values": values,
        "directions": [direction_name(d) for d in study.directions],
        "params": {name: to_json_value(value) for name, value in best.params.items()},
        "trial": best.number,
        "datetime": to_json_value(best.datetime_complete),
        "n_trials": len(study.get_trials(deepcopy=False)),
        "metrics": metric_names(study),
        "rounds": _rounds(best),
        "fixed": _found_in_data(best),
        "found_by": found_by(best),
    }


def metric_names(study: optuna.Study) -> list[str]:
    """The names of the objective values: the study's metric names, else `value`, or `value_0`, `value_1` and so on."""
    n = len(study.directions)
    return study.metric_names or (["value"] if n == 1 else [f"value_{i}" for i in range(n)])


def found_by(trial: FrozenTrial) -> str:
    """The run that a trial belongs to; empty for a trial of no run of ours."""
    return run_id_of(trial) or ""


def _rounds(trial: FrozenTrial) -> int | None:
    """How many rounds a model needs to be what the trial scored."""
    best = trial.user_attrs.get("best_iteration")  # from 0
    return best + 1 if isinstance(best, int) and not isinstance(best, bool) else None


def _found_in_data(trial: FrozenTrial) -> dict[str, Any]:
    fixed = trial.user_attrs.get("fixed_params")
    return {str(name): to_json_value(value) for name, value in fixed.items()} if isinstance(fixed, dict) else {}


def direction_name(direction: StudyDirection) -> str:
    """A direction as the spec writes it: minimize or maximize."""
    return direction.name.lower()


def state_counts(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """How many trials are in each state, in Optuna's order of states. States without trials are left out."""
    counts = Counter(trial.state for trial in trials)
    return {state.name: counts[state] for state in TrialState if counts[state]}


def _order(trial: FrozenTrial, directions: Sequence[StudyDirection]) -> tuple[Any, ...]:
    signs = [-1 if d == StudyDirection.MAXIMIZE else 1 for d in directions]
    # The number last: of equal trials the earlier one comes first, on every machine.
    return (*(sign * value for sign, value in zip(signs, trial.values, strict=True)), trial.number)


def _nothing_complete(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = ", ".join(f"{n} {state.lower()}" for state, n in state_counts(trials).items()) or "none at all"
    errors = [error for t in trials if (error := error_of(t))]
    last = f"; the first failure says: {errors[0].strip().splitlines()[-1]}" if errors else ""
    return f"study {study.study_name!r} has no complete trial to export (trials: {counts}){last}"
