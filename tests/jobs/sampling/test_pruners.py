"""Pruners in a run decide what they decide in Optuna itself, from all trials however long the study is."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_spark.driver.dispatch.study import SampledStudy, StoredStudy
from optuna_spark.sampling.array_percentile import ArrayPercentilePruner
from optuna_spark.sampling.build import build_pruner
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec
from optuna_spark.worker.worker import run_trial
from tests.support.coordination import spec_for

STEPS, TRIALS = 30, 260
MEDIAN = {"name": "MedianPruner", "args": {"n_startup_trials": 3}}
PRUNERS: list[tuple[str, dict[str, Any]]] = [
    ("MedianPruner", {}),
    ("MedianPruner", {"n_warmup_steps": 3, "interval_steps": 4, "n_min_trials": 30}),
    ("PercentilePruner", {"percentile": 25.0, "n_startup_trials": 0}),
    ("SuccessiveHalvingPruner", {}),
    ("SuccessiveHalvingPruner", {"min_resource": 2, "reduction_factor": 2, "bootstrap_count": 2}),
    ("HyperbandPruner", {"min_resource": 1, "max_resource": STEPS, "reduction_factor": 3}),
    ("HyperbandPruner", {}),
    ("ThresholdPruner", {"upper": 4.0}),
    ("PatientPruner", {"wrapped_pruner": MEDIAN, "patience": 2}),
    ("PatientPruner", {"wrapped_pruner": None, "patience": 4}),
    ("WilcoxonPruner", {"p_threshold": 0.2}),
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def curve(trial: Any) -> float:
    """Falling curves that get better with the trials' numbers, as a search gets better: some fail, some report NaN."""
    chance = random.Random(trial.number)
    start, end = chance.uniform(2, 6), chance.uniform(0, 2) + 3 * 0.99**trial.number
    for step in range(0, STEPS, 1 + trial.number % 2):
        value = end + (start - end) * math.exp(-step / 6) + chance.gauss(0, 0.05)
        trial.report(float("nan") if chance.random() < 0.02 else value, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    if chance.random() < 0.05:
        raise ValueError
    return float(end)


def optunas(name: str, args: dict[str, Any], direction: Literal["minimize", "maximize"]) -> optuna.Study:
    built = {n: _plain(value) if n == "wrapped_pruner" and value else value for n, value in args.items()}
    pruner = getattr(optuna.pruners, name)(**built)
    study = optuna.create_study(study_name="study", sampler=_random(), pruner=pruner, direction=direction)
    study.optimize(signed(direction), n_trials=TRIALS, catch=ValueError)
    return study


def _plain(component: dict[str, Any]) -> optuna.pruners.BasePruner:
    pruner: optuna.pruners.BasePruner = getattr(optuna.pruners, component["name"])(**component["args"])
    return pruner


def _random() -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=1)


def signed(direction: Literal["minimize", "maximize"]) -> Any:
    return curve if direction == "minimize" else lambda trial: -curve(Negative(trial))


class Negative:
    """A trial that reports the negative of each value."""

    def __init__(self, trial: Any) -> None:
        self._trial, self.number, self.should_prune = trial, trial.number, trial.should_prune

    def report(self, value: float, step: int) -> None:
        self._trial.report(-value, step)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("name", "args"), PRUNERS, ids=lambda value: str(value)[:40])
def test_a_long_study_is_pruned_as_in_optuna(
    name: str, args: dict[str, Any], direction: Literal["minimize", "maximize"]
) -> None:
    if direction == "maximize" and name == "ThresholdPruner":
        args = {"lower": -4.0}
    sampler, least = ComponentSpec("RandomSampler"), CoordinatorSpec(history=100)
    spec = spec_for(
        search_space={}, directions=(direction,), sampler=sampler, pruner=ComponentSpec(name, args), coordinator=least
    )
    study = SampledStudy(spec, StoredStudy([StudyDirection[direction.upper()]], [], {}))
    for _ in range(TRIALS):
        trial = study.ask()
        in_driver = _InDriver(study, trial)
        study.tell(trial.number, run_trial(signed(direction), in_driver, 1))
    theirs = optunas(name, args, direction).trials
    ours = study.trials()
    assert [(t.state, t.last_step) for t in ours] == [(t.state, t.last_step) for t in theirs]
    counted = Counter(t.state for t in theirs)
    assert counted[TrialState.PRUNED] > 10
    assert counted[TrialState.COMPLETE] > 10


class _InDriver:
    """A trial as the driver has it, whose pruner is asked as a worker's message has it asked."""

    def __init__(self, study: SampledStudy, trial: Any) -> None:
        self.number, self.report = trial.number, trial.report
        self.should_prune = lambda: study.should_prune(trial)


@pytest.mark.parametrize("name", ["MedianPruner", "PercentilePruner"])
def test_the_faster_classes_are_optunas_elsewhere(name: str) -> None:
    args = {} if name == "MedianPruner" else {"percentile": 50.0}
    pruner = build_pruner(ComponentSpec(name, args))
    assert isinstance(pruner, ArrayPercentilePruner)
    assert isinstance(pruner, getattr(optuna.pruners, name))
    study = optuna.create_study(study_name="study", sampler=_random(), pruner=pruner)
    study.optimize(curve, n_trials=60, catch=ValueError)
    theirs = optunas(name, args, "minimize").trials[:60]
    assert [(t.state, t.last_step) for t in study.trials] == [(t.state, t.last_step) for t in theirs]
