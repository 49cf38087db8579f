"""The study in the driver's memory, with the spec's sampler and pruner. All calls of Optuna are here."""

from __future__ import annotations

import datetime
import logging
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
from optuna_spark.sampling.calling.components import Components
from optuna_spark.sampling.calling.end_trial import end_trial
from optuna_spark.sampling.enqueue import queued_trial
from optuna_spark.sampling.exhaustive.exhaustive import ExhaustiveSampler
from optuna_spark.sampling.fits_study import check_search_space
from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.sampling.sampler_facts import portable, sampler_seed, sees_all
from optuna_spark.sampling.search_space import declared, distributions, suggest_queued
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import was_interrupted
from optuna_spark.storage.choices import internal_repr
from optuna_spark.storage.trial_marks import abandoned, failed
from optuna_spark.storage.trial_record import FIXED
from optuna_spark.wire.messages import Changes, Outcome

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredStudy:
    """The study as the database holds it when a run starts."""

    directions: Sequence[StudyDirection]
    trials: Sequence[FrozenTrial]
    system_attrs: Mapping[str, Any]
    user_attrs: Mapping[str, Any] = field(default_factory=dict)


class UnbegunTrialError(Exception):
    """A trial got no parameters: the sampler failed, or the queued ones do not fit. `number` is the running trial's."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


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
        self._components = Components.of(self._study, spec)
        self._points = sampler if isinstance(sampler, ExhaustiveSampler) else None
        if self._points is not None:
            self._points.serve(declared(spec.search_space), lambda trial: was_interrupted(trial, spec))

    @property
    def has_next(self) -> bool:
        """Whether there is anything to try now: parameters that wait, or a point that no trial has taken."""
        if self._points is None and not self._study.exhausted:
            return True
        if self._memory.first_waiting() is not None:
            return True
        return self._points is not None and self._points.has_free(self._memory, self._id)

    @property
    def may_grow(self) -> bool:
        """Whether there may be something to try later, once running trials have shown more of the search space."""
        return self._points is not None and self._points.grows

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
            UnbegunTrialError: The sampler failed, or the queued parameters do not fit the search space.
        """
        self._study._thread_local.cached_all_trials = None  # as `study.ask` does
        number = self._memory.begin_next(self._id)
        try:
            trial = Trial(self._study, number)
            suggest_queued(trial, self._spec.search_space, self.frozen(number).system_attrs.get(FIXED, {}))
        except TuningError:
            raise
        except Exception as error:
            raise UnbegunTrialError(number, self._components.no_parameters(self.frozen(number), error)) from error
        return trial

    def undeclared(self, number: int) -> dict[str, BaseDistribution]:
        """The distributions of a trial's parameters outside the declared search space."""
        found = self.frozen(number).distributions
        return {name: found[name] for name in found if name not in self._declared}

    def prepare(self, trial: Trial) -> None:
        """Without a declared search space, sample ahead what the sampler can infer from earlier trials.

        If the sampler fails now, it is asked again when the objective suggests its first parameter.
        """
        if not self._spec.search_space:
            try:
                _ = trial.relative_params  # Optuna samples when this is read first
            except TuningError:
                raise
            except Exception:
                log.warning("Trial %s could not be sampled ahead", trial.number, exc_info=True)

    def begin(self, number: int, start: datetime.datetime) -> None:
        """Note when a worker got a trial: Optuna notes when it was sampled."""
        self._memory.get_trial(number).datetime_start = start

    def relative(self, trial: Trial) -> tuple[dict[str, float], dict[str, BaseDistribution]]:
        """A trial's `relative_params` in internal representation, and their distributions.

        Raises:
            RuntimeError: The sampler failed.
        """
        params = self._components.told(lambda: trial.relative_params)
        space = trial.relative_search_space or {}
        return {name: internal_repr(space[name], value) for name, value in params.items()}, dict(space)

    def suggest(self, trial: Trial, name: str, distribution: BaseDistribution) -> float:
        """Suggest a parameter as `optuna.Trial` does, in internal representation; raises what Optuna raises.

        Raises:
            RuntimeError: The sampler failed.
        """
        value = self._components.told(lambda: _suggest(trial, name, distribution))
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
        """Whether the pruner would end the trial.

        Raises:
            RuntimeError: The pruner failed.
        """
        with self._memory.showing("pruner"):
            # Some pruners return numpy's bool, which JSON cannot hold.
            return bool(self._components.told(trial.should_prune))

    def tell(self, number: int, outcome: Outcome) -> Outcome:
        """Finish a trial; returns how it has ended: it fails where the sampler fails on it."""
        return end_trial(self._study, number, outcome, self._components)

    def close_unbegun(self, number: int, error: str) -> None:
        """Fail a trial that no worker got. The sampler is not told: it has no parameters of it, or is to blame."""
        self.mark(number, failed(error))
        self._memory.set_trial_state_values(number, TrialState.FAIL)

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


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_float(name, low, high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)
