"""What came out of a study: its best trials, the parameters to use, and the study as it was at one moment.

Optuna and the standard library only, because the Airflow side imports it too.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.errors import ExportError
from optuna_spark.results.trial_rows import to_json_value

_CREDENTIALS = re.compile(r"(\b[A-Za-z][\w+.-]*://)\S*@")


class FixedTrials(optuna.storages.InMemoryStorage):
    """A storage whose only study has just these trials, with their own numbers, and takes no others.

    Optuna's functions take a study; this is what lets them see a study as it was at one moment, or a part of it.
    The trials are handed out as they are, never copied: whoever gets them must not change them.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._fixed = list(trials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [t for t in self._fixed if states is None or t.state in states]


def snapshot(study: optuna.Study) -> optuna.Study:
    """The study as it is now, read from its storage once; passwords in its attributes are masked."""
    return with_trials(study, [_masked(t) for t in study.get_trials(deepcopy=False)])


def without_runs(study: optuna.Study, keys: Container[str]) -> optuna.Study:
    """The study as it is now, without the trials of these runs, to read from."""
    trials = study.get_trials(deepcopy=False)
    return with_trials(study, [t for t in trials if t.user_attrs.get("run_id") not in keys])


def with_trials(study: optuna.Study, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study like `study` (name, directions, metric names) that has just these trials, to read from."""
    return fixed_study(study.study_name, study.directions, study.metric_names, trials)


def fixed_study(
    name: str,
    directions: Sequence[StudyDirection],
    metric_names: list[str] | None,
    trials: Sequence[FrozenTrial],
) -> optuna.Study:
    """A study in memory that has just these trials, to read from."""
    with quiet():
        study = optuna.create_study(study_name=name, directions=directions, storage=FixedTrials(trials))
        if metric_names is not None:
            study.set_metric_names(metric_names)
    return study


def mask_passwords(text: str) -> str:
    """`text` with the user and password of each URL in it replaced, as in `mysql://***@host/database`."""
    return _CREDENTIALS.sub(r"\1***@", text)


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
    """What best_params.json holds: the best trial of the study, as JSON can carry it.

    Of several directions this is the Pareto trial that is best in the first one; `value` is then None.

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
    }


def direction_name(direction: StudyDirection) -> str:
    """Minimize or maximize."""
    return direction.name.lower()


def state_counts(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """How many trials are in each state, in Optuna's order of states, without the empty ones."""
    counts = Counter(trial.state for trial in trials)
    return {state.name: counts[state] for state in TrialState if counts[state]}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from announcing a new study, which is none to a user, and metric names as experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _masked(trial: FrozenTrial) -> FrozenTrial:
    attrs = {name: _mask(value) for name, value in trial.user_attrs.items()}
    if attrs == trial.user_attrs:
        return trial
    masked = copy.copy(trial)
    masked.user_attrs = attrs
    return masked


def _mask(value: Any) -> Any:
    if isinstance(value, str):
        # Half a surrogate pair (a strange file name in a traceback) could not be written to any file.
        return mask_passwords(value).encode(errors="replace").decode()
    if isinstance(value, dict):
        return {k: _mask(v) for k, v in value.items()}
    return [_mask(v) for v in value] if isinstance(value, list | tuple) else value


def _order(trial: FrozenTrial, directions: Sequence[StudyDirection]) -> tuple[Any, ...]:
    signs = [-1 if d == StudyDirection.MAXIMIZE else 1 for d in directions]
    return (*(sign * value for sign, value in zip(signs, trial.values, strict=True)), trial.number)


def _nothing_complete(study: optuna.Study) -> str:
    trials = study.get_trials(deepcopy=False)
    counts = ", ".join(f"{n} {state.lower()}" for state, n in state_counts(trials).items()) or "none at all"
    errors = [t.user_attrs["error"] for t in trials if t.user_attrs.get("error")]
    last = f"; the first failure says: {str(errors[0]).strip().splitlines()[-1]}" if errors else ""
    return f"study {study.study_name!r} has no complete trial to export (trials: {counts}){last}"
