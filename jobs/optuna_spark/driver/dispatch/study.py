"""The study in the driver's memory, with the spec's sampler and pruner. All calls of Optuna are here."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from optuna_spark.driver.dispatch.study_access import StudyAccess
from optuna_spark.errors import TuningError
from optuna_spark.objectives.registry import max_steps
from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.sampling.enqueue import queued_trial
from optuna_spark.sampling.fits_study import check_search_space
from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.sampling.sampler_facts import portable, sampler_seed, sees_all
from optuna_spark.sampling.search_space import distributions, suggest_queued
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.choices import internal_repr
from optuna_spark.storage.trial_marks import abandoned, failed
from optuna_spark.storage.trial_record import FIXED
from optuna_spark.wire.messages import Changes, Outcome


@dataclass(frozen=True)
class StoredStudy:
    """The study as the database holds it when a run starts."""

    directions: Sequence[StudyDirection]
    trials: Sequence[FrozenTrial]
    system_attrs: Mapping[str, Any]
    user_attrs: Mapping[str, Any] = field(default_factory=dict)


class QueuedParametersError(Exception):
    """Queued parameters do not fit the search space. `trial` is the running trial that was made for them."""

    def __init__(self, trial: Trial, reason: str) -> None:
        super().__init__(f"the queued parameters do not fit the search space: {reason}")
        self.trial = trial


class _Study(optuna.Study):
    """A study whose sampler may call `stop` when its search space is exhausted.

    Optuna's own `stop` raises outside of `study.optimize`.
    """

    exhausted = False

    def stop(self) -> None:
        self.exhausted = True


class SampledStudy:
    """Samples trials, takes their results, asks the pruner. Not thread-safe.

    Args:
        spec: The run.
        stored: The study as the database holds it.

    Attributes:
        access: What workers read of the study, and set on it.

    Raises:
        StudyMismatchError: A declared parameter is of another kind in the stored trials.
    """

    def __init__(self, spec: TuningSpec, stored: StoredStudy) -> None:
        self._spec = spec
        self._declared = distributions(spec.search_space)
        sampler = build_sampler(spec.sampler, sampler_seed(spec.seed, len(stored.trials)))
        self._memory = HistoryStorage(spec.coordinator.history, whole=sees_all(sampler))
        self._id = self._memory.load(spec.study_name, stored.directions, stored.trials)
        check_search_space(spec.study_name, distributions(spec.search_space), self._memory.stored_distributions)
        for key, value in stored.user_attrs.items():
            self._memory.set_study_user_attr(self._id, key, value)
        for key, value in stored.system_attrs.items():
            if portable(key):
                self._memory.set_study_system_attr(self._id, key, value)
        self._attrs = self._memory.get_study_system_attrs(self._id)
        self.access = StudyAccess(self._memory, self._id)
        self._study = _Study(spec.study_name, self._memory, sampler, build_pruner(spec.pruner, max_steps(spec)))

    @property
    def exhausted(self) -> bool:
        """Whether the sampler has tried every combination there is."""
        return self._study.exhausted

    @property
    def directions(self) -> Sequence[StudyDirection]:
        return self._study.directions

    def trials(self) -> list[FrozenTrial]:
        """All trials by number; for reading only."""
        return self._memory.everything(self._id)

    def frozen(self, number: int) -> FrozenTrial:
        """A trial as it is now; for reading only."""
        return self._memory.get_trial(number)

    def ask(self) -> Trial:
        """Make a trial, from the first queued parameters if there are any, and sample the declared search space.

        Raises:
            QueuedParametersError: The queued parameters do not fit the search space.
            TuningError: The sampler failed.
        """
        try:
            trial = self._study.ask()
            queued = self.frozen(trial.number).system_attrs.get(FIXED)  # Optuna's mark of a trial from enqueue_trial
            try:
                suggest_queued(trial, self._spec.search_space, queued or {})
            except (ValueError, TypeError, OverflowError) as error:
                if queued is not None:  # then its parameters are to blame
                    raise QueuedParametersError(trial, str(error)) from error
                raise
            return trial
        except QueuedParametersError:
            raise
        except Exception as error:
            raise self._sampler_failed(error) from error

    def undeclared(self, number: int) -> dict[str, BaseDistribution]:
        """The distributions of a trial's parameters outside the declared search space."""
        found = self.frozen(number).distributions
        return {name: found[name] for name in found if name not in self._declared}

    def prepare(self, trial: Trial) -> None:
        """Without a declared search space, sample ahead what the sampler can infer from earlier trials."""
        if not self._spec.search_space:
            try:
                _ = trial.relative_params  # Optuna samples when this is read first
            except Exception as error:
                raise self._sampler_failed(error) from error

    def begin(self, number: int, start: datetime.datetime) -> None:
        """Note when a worker got a trial: Optuna notes when it was sampled."""
        self._memory.get_trial(number).datetime_start = start

    def relative(self, trial: Trial) -> tuple[dict[str, float], dict[str, BaseDistribution]]:
        """A trial's `relative_params` in internal representation, and their distributions; raises what Optuna does."""
        params = trial.relative_params
        space = trial.relative_search_space or {}
        return {name: internal_repr(space[name], value) for name, value in params.items()}, dict(space)

    def suggest(self, trial: Trial, name: str, distribution: BaseDistribution) -> float:
        """Suggest a parameter as `optuna.Trial` does, in internal representation; raises what Optuna raises."""
        value = _suggest(trial, name, distribution)
        if isinstance(distribution, CategoricalDistribution):
            self._note_choice(trial, name, distribution, value)
        return internal_repr(distribution, value)

    def update(self, trial: Trial, changes: Changes) -> None:
        for step, value in changes.reports:
            trial.report(value, step)
        for key, attr in changes.user_attrs.items():
            trial.set_user_attr(key, attr)
        for key, violation in changes.constraints.items():
            trial.set_constraint(key, violation)
        for key, attr in changes.system_attrs.items():
            self._memory.set_trial_system_attr(trial.number, key, attr)

    def should_prune(self, trial: Trial) -> bool:
        with self._memory.showing("pruner"):
            return bool(trial.should_prune())  # some pruners return numpy's bool, which JSON cannot hold

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Finish a trial. It stays finished even if the sampler then fails on it.

        Raises:
            TuningError: The sampler failed.
        """
        if outcome.error is not None:
            self.mark(trial.number, failed(outcome.error))
        try:
            self._study.tell(trial, outcome.values, outcome.state)
        except Exception as error:
            if not self.frozen(trial.number).state.is_finished():
                raise
            raise self._sampler_failed(error) from error

    def close_abandoned(self, number: int, error: str) -> None:
        """Fail a stored trial that no worker runs any more. The sampler is not told: this process did not sample it."""
        self.mark(number, abandoned(self.frozen(number), error))
        self._memory.set_trial_state_values(number, TrialState.FAIL)

    def mark(self, number: int, marks: Mapping[str, Any]) -> None:
        """Make notes on a trial (storage/trial_marks.py)."""
        for name, value in marks.items():
            self._memory.set_trial_system_attr(number, name, value)

    def queue(
        self, params: Mapping[str, Any], marks: Mapping[str, Any], user_attrs: Mapping[str, Any] | None = None
    ) -> int:
        """Queue these parameters for one of the next trials; returns the number of the trial that waits."""
        with self._memory.showing("all"):
            self._study.add_trial(queued_trial(params, marks, user_attrs))
        return self._memory.count - 1

    def take_new_attrs(self) -> dict[str, Any]:
        """The study's system attributes that the sampler has set since the last call."""
        attrs, before = self._memory.get_study_system_attrs(self._id), self._attrs
        if attrs is before:  # the storage makes a new dict for each change
            return {}
        self._attrs = attrs
        return {k: v for k, v in attrs.items() if portable(k) and before.get(k) != v}

    def _note_choice(self, trial: Trial, name: str, distribution: CategoricalDistribution, value: Any) -> None:
        """Note the choice that was sampled, where Optuna notes the first of those that are equal in Python.

        A declared search space has no such choices.
        """
        index = internal_repr(distribution, value)
        if index != distribution.to_internal_repr(value):
            self._memory.set_trial_param(trial.number, name, index, distribution)

    def _sampler_failed(self, error: Exception) -> TuningError:
        return TuningError(f"sampler {self._spec.sampler.name} failed: {type(error).__name__}: {error}")


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_float(name, low, high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)
