"""The faster TPESampler: it samples what Optuna's samples, in every kind of study, and is what studies get."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna import Trial, TrialPruned
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_spark.sampling.array_tpe import ArrayTPESampler
from optuna_spark.sampling.build import SAME, build_sampler
from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.spec.sections import ComponentSpec
from tests.support.same_search import assert_same

TRIALS = 120
AT_ONCE = 4

Objective = Callable[[Trial], float | tuple[float, ...]]


def mixed(trial: Trial) -> float:
    x = trial.suggest_float("x", -5, 5)
    rate = trial.suggest_float("rate", 1e-4, 1, log=True)
    depth = trial.suggest_int("depth", 2, 20, step=2)
    kind = trial.suggest_categorical("kind", ["a", None, 3])
    return x**2 + rate + abs(depth - 8) + (kind == "a")


def one(trial: Trial) -> float:
    return trial.suggest_float("x", -10, 10) ** 2


def conditional(trial: Trial) -> float:
    if trial.suggest_categorical("model", ["line", "curve"]) == "line":
        return trial.suggest_float("slope", 0, 3)
    return trial.suggest_int("degree", 2, 9) * trial.suggest_float("bend", 0.1, 1)


def pruned(trial: Trial) -> float:
    value = mixed(trial)
    trial.report(value, 1 + trial.number % 3)
    if trial.number % 7 == 0:
        raise TrialPruned
    return value


def mostly_pruned(trial: Trial) -> float:
    value = one(trial)
    trial.report(value, 5)
    if trial.number % 20:
        raise TrialPruned
    return value


def failing(trial: Trial) -> float:
    value = mixed(trial)
    return float("nan") if trial.number % 5 == 0 else value


def constrained(trial: Trial) -> float:
    value = mixed(trial)
    trial.set_constraint("x at most 1", trial.params["x"] - 1)
    return value


def ties(trial: Trial) -> float:
    return float(trial.suggest_int("x", 0, 40) // 20)


def two_values(trial: Trial) -> tuple[float, float]:
    return mixed(trial), trial.params["x"]


def run(sampler: BaseSampler, objective: Objective, storage: optuna.storages.BaseStorage, directions: list[Any]) -> Any:
    """Several trials at once, which end in another order; returns what each trial was given."""
    study = optuna.create_study(storage=storage, sampler=sampler, directions=directions, study_name="study")
    study.enqueue_trial({"x": 0.5})
    for _ in range(TRIALS // AT_ONCE):
        trials = [study.ask() for _ in range(AT_ONCE)]
        told: list[tuple[Trial, Any, TrialState | None]] = []
        for trial in trials:
            try:
                told.append((trial, objective(trial), None))
            except TrialPruned:
                told.append((trial, None, TrialState.PRUNED))
        for trial, values, state in reversed(told):
            study.tell(trial, values, state=state, skip_if_finished=False)
    return [trial.params for trial in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize(
    ("objective", "arguments"),
    [
        (one, {}),
        (mixed, {}),
        (mixed, {"multivariate": False}),
        (mixed, {"constant_liar": False}),
        (mixed, {"n_startup_trials": 0, "gamma": lambda n: n // 3}),
        (mixed, {"consider_magic_clip": False, "consider_endpoints": True, "prior_weight": 0.5}),
        (conditional, {}),
        (conditional, {"group": True}),
        (pruned, {}),
        (mostly_pruned, {}),
        (failing, {}),
        (constrained, {}),
        (ties, {}),
        (two_values, {}),
    ],
)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_samples_what_optunas_samples(objective: Objective, arguments: dict[str, Any], direction: str) -> None:
    directions = [direction, "minimize"] if objective is two_values else [direction]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = (cls(seed=3, **arguments) for cls in (TPESampler, ArrayTPESampler))
        assert_same(
            run(ours, objective, HistoryStorage(None), directions),
            run(theirs, objective, optuna.storages.InMemoryStorage(), directions),
        )


def test_it_samples_the_same_where_a_pruner_shows_it_a_part_of_the_study() -> None:
    def sampled(sampler: BaseSampler, storage: optuna.storages.BaseStorage) -> list[dict[str, Any]]:
        pruner = optuna.pruners.HyperbandPruner(max_resource=9)
        study = optuna.create_study(storage=storage, sampler=sampler, pruner=pruner, study_name="study")
        study.optimize(pruned, n_trials=TRIALS)
        return [trial.params for trial in study.get_trials(deepcopy=False)]

    theirs = sampled(TPESampler(seed=3, multivariate=False), optuna.storages.InMemoryStorage())
    assert_same(sampled(ArrayTPESampler(seed=3, multivariate=False), HistoryStorage(None)), theirs)


def test_it_samples_the_same_from_a_history_that_shows_a_part_of_the_trials() -> None:
    def last(sampler: BaseSampler) -> list[dict[str, Any]]:
        storage = HistoryStorage(40)
        storage.load("loaded", [StudyDirection.MINIMIZE], known)
        study = optuna.load_study(study_name="loaded", storage=storage, sampler=sampler)
        for _ in range(80):
            trial = study.ask()
            study.tell(trial, mixed(trial))
        return [trial.params for trial in storage.everything(0)]

    before = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    before.optimize(mixed, n_trials=60)
    known = before.get_trials(deepcopy=False)
    assert_same(last(ArrayTPESampler(seed=3)), last(TPESampler(seed=3)))


def test_it_samples_the_same_with_many_trials_at_once_when_kernels_are_narrow_and_grids_wide() -> None:
    def sampled(study: optuna.Study) -> list[dict[str, Any]]:
        running: list[tuple[Trial, float]] = []
        for _ in range(500):
            trial = study.ask()
            trees = trial.suggest_int("trees", 10, 5000, log=True)
            running.append((trial, mixed(trial) + trees / 1000 + trial.suggest_float("share", 0.5, 1, step=0.05)))
            if len(running) == 32:
                study.tell(*running.pop(0))
        return [trial.params for trial in study.get_trials(deepcopy=False)]

    storage = HistoryStorage(100, whole=True)
    storage.load("study", [StudyDirection.MINIMIZE], [])
    ours = optuna.load_study(study_name="study", storage=storage, sampler=ArrayTPESampler(seed=4))
    assert_same(sampled(ours), sampled(optuna.create_study(sampler=TPESampler(seed=4))))


def test_it_leaves_nothing_to_optunas_method_in_a_usual_study(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("Optuna's method sampled")

    monkeypatch.setattr(TPESampler, "_sample", refuse)
    for objective in (one, mixed, conditional, pruned, mostly_pruned, failing, constrained, two_values):
        directions = ["minimize"] * (2 if objective is two_values else 1)
        run(ArrayTPESampler(seed=3), objective, HistoryStorage(None), directions)


def test_studies_get_it_and_optunas_own_with_a_release_it_was_not_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = ComponentSpec("TPESampler", {"n_startup_trials": 5})
    nested = ComponentSpec("PartialFixedSampler", {"fixed_params": {}, "base_sampler": {"name": "TPESampler"}})
    assert type(build_sampler(asked, 1)) is ArrayTPESampler
    assert type(build_sampler(nested, 1)._base_sampler) is ArrayTPESampler  # type: ignore[attr-defined]
    monkeypatch.setattr(optuna, "__version__", "5.1.0")
    assert "5.1" not in SAME
    assert type(build_sampler(asked, 1)) is TPESampler
