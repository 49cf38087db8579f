"""Optuna's TPESampler, with the finished trials kept in arrays: the same samples in a fraction of the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.sampler import default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.sampling.history import HistoryStorage

# The releases of Optuna whose TPESampler this was compared with. With any other one, Optuna's own class samples.
SAME_AS = ("5.0",)


class ArrayTPESampler(TPESampler):
    """Samples what `optuna.samplers.TPESampler` samples, bit for bit, from the same arguments and trials.

    For each new trial, Optuna's method goes through all finished trials several times, in Python. From a few hundred
    trials on, that takes most of its time. Here `HistoryStorage` lists the finished trials, and each is read once and
    kept as a row of an array.

    Rare cases are left to Optuna's method: several objectives, violated constraints, fewer complete trials than TPE
    wants good ones, and studies in another storage. Not thread-safe.
    """

    _trials: _FinishedTrials | None = None

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        warns = self._warn_independent_sampling and self._is_multivariate(study)
        if warns or not self._has_started(study):
            return super().sample_independent(study, trial, param_name, param_distribution)
        return self._sample(study, trial, {param_name: param_distribution})[param_name]

    def _sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space or not self._has_started(study):
            return super()._sample_relative(study, trial, search_space)
        return self._sample(study, trial, search_space)

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        divided = self._divided(study, trial, search_space)
        if divided is None:
            return super()._sample(study, trial, search_space)
        # From here on as in Optuna: good and other trials each give a density, and their ratio rates new samples.
        below, above = (
            self._parzen_estimator_cls(
                dict(zip(search_space, rows.T, strict=True)), search_space, self._parzen_estimator_parameters
            )
            for rows in divided
        )
        samples = below.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(samples, self._compute_acquisition_func(samples, below, above))
        return {name: distribution.to_external_repr(best[name]) for name, distribution in search_space.items()}

    def _has_started(self, study: Study) -> bool:
        """Whether there are enough finished trials for TPE, as far as their number alone can tell."""
        storage = study._storage
        return isinstance(storage, HistoryStorage) and len(storage.finished_well()) >= self._n_startup_trials

    def _divided(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The parameters of the good trials and of the others, each (n_trials, n_params); None in the rare cases."""
        storage = study._storage
        if study._is_multi_objective() or not isinstance(storage, HistoryStorage):
            return None
        known = self._trials
        if known is None or known.storage is not storage:
            known = self._trials = _FinishedTrials(storage, study.direction)
        numbers = storage.finished_well()
        known.look_at(numbers)
        losses = known.losses[numbers]
        n_below = (self._gamma or default_gamma)(len(numbers))
        if known.violated or n_below > np.count_nonzero(~np.isnan(losses)):
            return None
        rank = np.argsort(losses, kind="stable")  # NaN, which stands for pruned, comes last
        names = list(search_space)
        below, others = np.sort(numbers[rank[:n_below]]), numbers[rank[n_below:]]
        # With constant_liar, running trials count as bad ones, so that workers do not all sample the same region.
        running = [t for t in storage.running() if t.number != trial.number] if self._constant_liar else []
        # Sorted by number, as in Optuna: the samples depend on the order of the rows.
        order = np.argsort(np.concatenate([others, [t.number for t in running]]), kind="stable")
        above = np.concatenate([known.rows(others, names), self._running_rows(running, search_space, study)])[order]
        return _complete_rows(known.rows(below, names)), _complete_rows(above)

    def _running_rows(
        self, trials: Sequence[FrozenTrial], search_space: dict[str, BaseDistribution], study: Study
    ) -> NDArray[np.float64]:
        rows = np.full((len(trials), len(search_space)), np.nan)
        for row, trial in zip(rows, trials, strict=True):
            params = self._get_params(trial, study)
            if search_space.keys() <= params.keys():
                row[:] = [d.to_internal_repr(params[name]) for name, d in search_space.items()]
        return rows


class _FinishedTrials:
    """The data of finished trials that TPE reads, in arrays whose index is the trial's number.

    Attributes:
        storage: The storage of the trials.
        losses: (n,) float64 objective values, smaller is better; NaN for a pruned trial and for one not read.
        violated: Whether a trial violates a constraint.
    """

    def __init__(self, storage: HistoryStorage, direction: StudyDirection) -> None:
        self.storage = storage
        self.violated = False
        self.losses = np.full(0, np.nan)
        self._seen = np.zeros(0, dtype=bool)
        self._columns: dict[str, NDArray[np.float64]] = {}
        self._sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0

    def look_at(self, numbers: NDArray[np.intp]) -> None:
        """Read the trials that were not read before."""
        self._make_room(int(numbers.max(initial=-1)) + 1)
        for number in numbers[~self._seen[numbers]].tolist():
            self._read(self.storage.get_trial(number))

    def rows(self, numbers: NDArray[np.intp], names: Iterable[str]) -> NDArray[np.float64]:
        """(len(numbers), len(names)) parameters in internal representation; NaN where a trial lacks one."""
        return np.stack([self._column(name)[numbers] for name in names], axis=1)

    def _read(self, trial: FrozenTrial) -> None:
        self._seen[trial.number] = True
        if trial.state == TrialState.COMPLETE:
            assert trial.value is not None
            self.losses[trial.number] = self._sign * trial.value
        self.violated |= any(violation > 0 for violation in trial.constraints.values())
        for name, distribution in trial.distributions.items():
            self._column(name)[trial.number] = distribution.to_internal_repr(trial.params[name])

    def _column(self, name: str) -> NDArray[np.float64]:
        return self._columns.setdefault(name, np.full(len(self._seen), np.nan))

    def _make_room(self, size: int) -> None:
        # Twice the size that is needed, so that arrays are copied rarely.
        more = 2 * size - len(self._seen) if size > len(self._seen) else 0
        if more:
            self._seen = np.pad(self._seen, (0, more))
            self.losses = _longer(self.losses, more)
            self._columns = {name: _longer(column, more) for name, column in self._columns.items()}


def _longer(column: NDArray[np.float64], more: int) -> NDArray[np.float64]:
    return np.pad(column, (0, more), constant_values=np.nan)


def _complete_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows without NaN: like Optuna, TPE learns only from trials that have all parameters."""
    return rows[~np.isnan(rows).any(axis=1)]
