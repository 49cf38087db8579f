"""The study as an objective sees it: all of Optuna's, but for what the run does itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

_OWN_STUDY = "the run hands out trials; to search within one, make a study of your own with optuna.create_study()"
_IN_DRIVER = "is in the driver: use trial.suggest_float() and its like, and trial.should_prune()"


class WorkerStudy(optuna.Study):
    """A study in which a run works, for the objective of a trial.

    Args:
        study: The study as Optuna made it. Its storage, sampler, pruner and caches are shared.
        stop: Has the run start no further trial.
    """

    def __init__(self, study: optuna.Study, stop: Callable[[], None]) -> None:
        vars(self).update(vars(study))
        self._stop_run: Callable[[], None] | None = stop

    def stop(self) -> None:
        """Start no further trial; running trials may end."""
        if self._stop_run is None:
            raise RuntimeError("a pickled study cannot stop the run: call study.stop() where the trial runs")
        self._stop_run()

    def optimize(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"an objective cannot call study.optimize(): {_OWN_STUDY}")

    def ask(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"an objective cannot call study.ask(): {_OWN_STUDY}")

    def tell(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"an objective cannot call study.tell(): {_OWN_STUDY}")

    def __deepcopy__(self, memo: dict[int, Any]) -> WorkerStudy:
        return self  # a handle; only a pickled one loses what it holds

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "_stop_run": None}


class DriversSampler(BaseSampler):
    """Stands in a worker's study for the sampler, which only the driver has."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> NoReturn:
        raise RuntimeError(f"the sampler {_IN_DRIVER}")

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> NoReturn:
        raise RuntimeError(f"the sampler {_IN_DRIVER}")

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> NoReturn:
        raise RuntimeError(f"the sampler {_IN_DRIVER}")


class DriversPruner(BasePruner):
    """Stands in a worker's study for the pruner, which only the driver has."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> NoReturn:
        raise RuntimeError(f"the pruner {_IN_DRIVER}")
