"""Snapshots of a study: in memory, as it was at one moment, and without passwords."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.results.shown_trials import shown_trials
from optuna_spark.storage.trial_marks import ERROR, run_id_of

# User and password in a URL: everything between "://" and the last "@" before a space.
_CREDENTIALS = re.compile(r"(\b[A-Za-z][\w+.-]*://)\S*@")


class FixedTrials(optuna.storages.InMemoryStorage):
    """A storage with one study, which holds just these trials, with the numbers that they have.

    Optuna's functions take a study. With this storage they can be given a study as it was at one moment, or a part of
    it. The storage returns the trials themselves, not copies: do not change them.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._fixed = list(trials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [t for t in self._fixed if states is None or t.state in states]


def snapshot(study: optuna.Study) -> optuna.Study:
    """A copy of the study as people see it, read from its storage once.

    The run's notes are among the user attributes (results/shown_trials.py), and passwords in them are masked.
    """
    return with_trials(study, [masked(t) for t in shown_trials(study.get_trials(deepcopy=False))])


def without_runs(study: optuna.Study, keys: Container[str]) -> optuna.Study:
    """A read-only copy of the study as it is now, without the trials of the runs `keys`."""
    trials = study.get_trials(deepcopy=False)
    return with_trials(study, [t for t in trials if run_id_of(t) not in keys])


def with_trials(study: optuna.Study, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A read-only study with the name, directions and metric names of `study`, and just these trials."""
    return fixed_study(study.study_name, study.directions, study.metric_names, trials)


def fixed_study(
    name: str,
    directions: Sequence[StudyDirection],
    metric_names: list[str] | None,
    trials: Sequence[FrozenTrial],
) -> optuna.Study:
    """A read-only study in memory that has just these trials."""
    with quiet():
        study = optuna.create_study(study_name=name, directions=directions, storage=FixedTrials(trials))
        if metric_names is not None:
            study.set_metric_names(metric_names)
    return study


def mask_passwords(text: str) -> str:
    """Replace user and password in each URL of the text, as in `mysql://***@host/database`."""
    return _CREDENTIALS.sub(r"\1***@", text)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna in this block.

    It would announce a new study, which the user did not make, and warn that metric names are experimental.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def masked(trial: FrozenTrial) -> FrozenTrial:
    """The trial with the passwords in its user attributes and its error masked."""
    attrs = {name: _mask(value) for name, value in trial.user_attrs.items()}
    error = {name: _mask(value) for name, value in trial.system_attrs.items() if name == ERROR}
    if attrs == trial.user_attrs and error.items() <= trial.system_attrs.items():
        return trial
    shown = copy.copy(trial)  # the storage may have the original in its cache
    shown.user_attrs, shown.system_attrs = attrs, trial.system_attrs | error
    return shown


def _mask(value: Any) -> Any:
    if isinstance(value, str):
        # Half of a surrogate pair cannot be written as UTF-8. A traceback may hold one, from a file name.
        return mask_passwords(value).encode(errors="replace").decode()
    if isinstance(value, dict):
        return {k: _mask(v) for k, v in value.items()}
    return [_mask(v) for v in value] if isinstance(value, list | tuple) else value
