"""The trial in a worker that opens the database itself: Optuna's own, with what a run adds."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from optuna_spark.database.mysql_errors import is_rolled_back
from optuna_spark.database.retries import retried
from optuna_spark.spec.parameters import check_suggested
from optuna_spark.trial_callback import NOBODY, Callbacks
from optuna_spark.worker.study import WorkerStudy

# Optuna's cache between study and storage bypasses the retries of our storage here. After a lost connection nothing is
# suggested again: the first value may be stored already, and the second one would differ from it.
_suggest_patiently = retried(optuna.Trial._suggest, is_rolled_back)


class DatabaseTrial(optuna.Trial):
    """A running trial, used by an objective.

    Its suggestions survive a deadlock. It refuses names that MySQL's usual collations take for one: Optuna's storage
    would store the first of two, and drop the other without a word. The callbacks hear of its reports.

    A pickled trial opens the database anew, as Optuna's own does; callbacks hear nothing of it.

    Args:
        trial: The trial as Optuna made it.
        study: The study as its objective sees it.
        callbacks: Who is told of its reports.
    """

    _callbacks = NOBODY  # those of a pickled trial

    def __init__(self, trial: optuna.Trial, study: WorkerStudy, callbacks: Callbacks) -> None:
        vars(self).update(vars(trial))
        self.study, self._callbacks = study, callbacks

    def report(self, value: float, step: int) -> None:
        super().report(value, step)
        self._callbacks.trial_reported(self.number, int(step), float(value))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        known = self._cached_frozen_trial.distributions
        if name not in known:
            check_suggested((*known, name))
        return _suggest_patiently(self, name, distribution)

    def __deepcopy__(self, memo: dict[int, Any]) -> DatabaseTrial:
        return self  # a handle on the running trial, which scikit-learn's `clone` copies with its callbacks

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_callbacks"}
