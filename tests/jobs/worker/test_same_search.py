"""Every sampler learns in a run what it learns in Optuna itself: all trials, their constraints, the Pareto front."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal

import optuna
import pytest
from optuna.trial import FrozenTrial

from optuna_spark.driver.dispatch.study import SampledStudy, StoredStudy
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.messages import Outcome
from optuna_spark.worker.worker import TrialSource, run_trial
from tests.support.coordination import run_one, spec_for
from tests.support.same_search import assert_same

Worker = Callable[..., TrialSource]
LEAST_HISTORY = CoordinatorSpec(history=100)  # what GPSampler sees; all others see more
NEEDS_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="GPSampler needs torch")
TWO: tuple[Literal["minimize"], ...] = ("minimize", "minimize")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def constrained(trial: Any) -> float:
    """The best point of the plane breaks a constraint: at most a circle around another point is feasible."""
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
    trial.set_constraint("in the circle", (x + 2) ** 2 + (y + 2) ** 2 - 1)
    return float(x**2 + y**2)


def constrained_pair(trial: Any) -> tuple[float, float]:
    value = constrained(trial)
    return value, -float(trial.params["x"])


def zdt1(trial: Any) -> tuple[float, float]:
    """Two values of which none is best: Zitzler, Deb and Thiele, https://doi.org/10.1162/106365600568202."""
    first, *others = (trial.suggest_float(f"x{i}", 0, 1) for i in range(4))
    g = 1 + 9 * sum(others) / len(others)
    return first, g * (1 - math.sqrt(first / g))


def optunas(sampler: ComponentSpec, objective: Callable[[Any], Any], trials: int, n_values: int) -> list[FrozenTrial]:
    """The trials of Optuna's own search, in one process."""
    cls = getattr(optuna.samplers, sampler.name)
    study = optuna.create_study(sampler=cls(seed=1, **sampler.args), directions=TWO[:n_values])
    study.optimize(objective, n_trials=trials)
    return study.trials


def params(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    return [trial.params for trial in trials]


class Unconstrained:
    """A trial whose constraints are forgotten."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial, self.suggest_float = trial, trial.suggest_float

    @property
    def params(self) -> dict[str, Any]:
        return self._trial.params

    def set_constraint(self, key: str, value: float) -> None: ...


class Driver:
    """The driver's study alone, without workers and messages: many trials in little time."""

    def __init__(self, spec: TuningSpec) -> None:
        directions = [optuna.study.StudyDirection[d.upper()] for d in spec.directions]
        self.study = SampledStudy(spec, StoredStudy(directions, [], {}))

    def run(self, objective: Callable[[Any], Any], trials: int) -> list[FrozenTrial]:
        for _ in range(trials):
            trial = self.study.ask()
            outcome: Outcome = run_trial(objective, trial, len(self.study.directions))
            self.study.tell(trial.number, outcome)
        return self.study.trials()


@pytest.mark.parametrize(
    ("name", "args", "objective"),
    [
        ("TPESampler", {}, constrained),
        ("TPESampler", {"multivariate": False}, constrained_pair),
        ("NSGAIISampler", {"population_size": 8}, constrained_pair),
        ("NSGAIIISampler", {"population_size": 8}, constrained_pair),
        pytest.param("GPSampler", {"n_startup_trials": 8}, constrained, marks=NEEDS_TORCH),
    ],
)
def test_constraints_that_an_objective_sets_reach_the_sampler(
    worker: Worker, name: str, args: dict[str, Any], objective: Callable[[Any], Any]
) -> None:
    sampler, n_values, trials = ComponentSpec(name, args), 1 if objective is constrained else 2, 32
    source = worker(trials=trials, sampler=sampler, directions=TWO[:n_values])
    ours: list[dict[str, Any]] = []

    def noted(trial: Any) -> Any:
        value = objective(trial)
        ours.append(dict(trial.params))
        return value

    for _ in range(trials):
        run_one(source, noted, n_values)
    theirs = optunas(sampler, objective, trials, n_values)
    assert_same(ours, params(theirs))
    free = optunas(sampler, lambda trial: objective(Unconstrained(trial)), trials, n_values)
    assert params(free) != params(theirs), "the constraint makes no difference to this test"


@pytest.mark.parametrize("args", [{}, {"multivariate": False}])
def test_tpe_with_several_directions_sees_the_whole_pareto_front(args: dict[str, Any]) -> None:
    sampler = ComponentSpec("TPESampler", args)
    spec = spec_for(search_space={}, directions=TWO, sampler=sampler, coordinator=LEAST_HISTORY)
    ours = Driver(spec).run(zdt1, 125)
    theirs = optunas(sampler, zdt1, 125, 2)
    assert_same(params(ours), params(theirs))


@pytest.mark.parametrize("name", ["NSGAIISampler", "NSGAIIISampler"])
def test_genetic_samplers_get_a_population_larger_than_the_least_history(name: str) -> None:
    sampler = ComponentSpec(name, {"population_size": 130})
    spec = spec_for(search_space={}, directions=TWO, sampler=sampler, coordinator=LEAST_HISTORY)
    ours = Driver(spec).run(zdt1, 400)
    theirs = optunas(sampler, zdt1, 400, 2)
    assert generations(ours, name) == generations(theirs, name) == {0: 130, 1: 130, 2: 130, 3: 10}
    assert params(ours) == params(theirs)


@pytest.mark.parametrize("name", ["NSGAIISampler", "NSGAIIISampler"])
def test_so_they_do_with_workers(worker: Worker, name: str) -> None:
    sampler = ComponentSpec(name, {"population_size": 105})
    source = worker(trials=120, sampler=sampler, directions=TWO, coordinator=LEAST_HISTORY)
    ours: list[dict[str, Any]] = []

    def noted(trial: Any) -> Any:
        values = zdt1(trial)
        ours.append(dict(trial.params))
        return values

    for _ in range(120):
        run_one(source, noted, 2)
    theirs = optunas(sampler, zdt1, 120, 2)
    assert generations(theirs, name) == {0: 105, 1: 15}
    assert ours == params(theirs)


def generations(trials: list[FrozenTrial], name: str) -> dict[int, int]:
    """How many trials each generation has."""
    return dict(Counter(trial.system_attrs[f"{name}:generation"] for trial in trials))


def rising(trial: Any) -> float:
    """Later trials are better, so what is usual among the recent ones is not what is usual among all."""
    value = (trial.number * 37 % 101) / 101 - trial.number / 200
    for step in range(1, 9):
        trial.report(value + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(value)


@pytest.mark.parametrize(
    "pruner", [ComponentSpec("MedianPruner"), ComponentSpec("SuccessiveHalvingPruner", {"reduction_factor": 2})]
)
def test_pruners_judge_by_all_trials(worker: Worker, pruner: ComponentSpec) -> None:
    random, trials = ComponentSpec("RandomSampler"), 150
    source = worker(trials=trials, sampler=random, pruner=pruner, coordinator=LEAST_HISTORY)
    ours = [run_one(source, rising).state for _ in range(trials)]
    theirs = getattr(optuna.pruners, pruner.name)(**pruner.args)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(), pruner=theirs)
    study.optimize(rising, n_trials=trials)
    assert ours == [trial.state for trial in study.trials]
    assert len(set(ours)) == 2
