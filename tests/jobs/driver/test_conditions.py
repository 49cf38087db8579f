"""A run whose search space has conditions, with either coordination and several samplers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from optuna_spark.sampling.search_space import suggest_params
from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.storage.trial_marks import error_of
from tests.support.coordination import run, spec_for
from tests.support.shared import started, work

SPACE = {
    "rate_drop": ParamSpec("float", 0, 1, step=0.5, when={"booster": "dart"}),
    "booster": ParamSpec("categorical", choices=("gbtree", "dart")),
    "depth": ParamSpec("int", 1, 3),
    "leaves": ParamSpec("int", 1, 2, when={"booster": ["dart"], "depth": [2, 3], "rate_drop_on": True}),
    "rate_drop_on": ParamSpec("categorical", choices=(True, False), when={"booster": "dart"}),
}
WITH_DART = {"rate_drop", "rate_drop_on"}


def value(params: dict[str, Any]) -> float:
    return float(params["depth"] + params.get("rate_drop", 2.0) + params.get("leaves", 0))


def objective(trial: Any) -> float:
    return value(suggest_params(trial, SPACE))


def by_hand(trial: Any) -> float:
    """The same space in Optuna's own way."""
    params = {"booster": trial.suggest_categorical("booster", ["gbtree", "dart"])}
    if params["booster"] == "dart":
        params["rate_drop"] = trial.suggest_float("rate_drop", 0, 1, step=0.5)
    params["depth"] = trial.suggest_int("depth", 1, 3)
    if params["booster"] == "dart":
        params["rate_drop_on"] = trial.suggest_categorical("rate_drop_on", [True, False])
        if params["depth"] >= 2 and params["rate_drop_on"]:
            params["leaves"] = trial.suggest_int("leaves", 1, 2)
    return value(params)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


def stored(url: str) -> optuna.Study:
    return optuna.load_study(study_name="study", storage=url)


def run_shared(spec: Any, url: str, function: Callable[[Any], float]) -> None:
    with started(spec, url) as shared:
        work(shared, function)


RUN: dict[str, Callable[..., object]] = {"driver": run, "database": run_shared}


def check_every_trial(study: optuna.Study) -> None:
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    for trial in study.trials:
        dart = trial.params["booster"] == "dart"
        deep = dart and trial.params["depth"] > 1 and trial.params["rate_drop_on"]
        wanted = {"booster", "depth"} | (WITH_DART if dart else set()) | ({"leaves"} if deep else set())
        assert trial.params.keys() == wanted


@pytest.mark.parametrize("coordination", RUN)
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("TPESampler", {}),
        ("TPESampler", {"multivariate": True, "group": True}),
        ("TPESampler", {"multivariate": False}),
        ("RandomSampler", {}),
        ("NSGAIISampler", {"population_size": 6}),
        ("QMCSampler", {}),
    ],
)
def test_a_parameter_is_sampled_where_its_condition_holds(
    url: str, coordination: str, name: str, args: dict[str, Any]
) -> None:
    for trials, run_id in ((20, "one"), (10, "two")):  # the second goes on with the study of the first
        spec = spec_for(
            search_space=SPACE,
            trials=trials,
            run_id=run_id,
            sampler=ComponentSpec(name, args),
            coordination=coordination,
        )
        RUN[coordination](spec, url, objective)
    study = stored(url)
    assert len(study.trials) == 30
    check_every_trial(study)
    assert {trial.params["booster"] for trial in study.trials} == {"gbtree", "dart"}


@pytest.mark.parametrize("args", [{}, {"multivariate": True, "group": True}, {"multivariate": False}], ids=str)
def test_tpe_searches_as_it_does_where_the_objective_has_the_conditions(url: str, args: dict[str, Any]) -> None:
    sampler = ComponentSpec("TPESampler", args)
    run(spec_for(search_space=SPACE, trials=60, sampler=sampler), url, objective)
    run(spec_for(search_space={}, trials=60, sampler=sampler, study_name="undeclared"), url, by_hand)
    undeclared = optuna.load_study(study_name="undeclared", storage=url)
    assert [t.params for t in stored(url).trials] == [t.params for t in undeclared.trials]


def test_a_worker_that_follows_the_conditions_by_hand_gets_the_same(url: str) -> None:
    run(spec_for(search_space=SPACE, trials=20), url, by_hand, workers=2)
    check_every_trial(stored(url))


def test_brute_force_tries_each_combination_that_exists_once(url: str) -> None:
    coordinator = run(
        spec_for(search_space=SPACE, trials=200, sampler=ComponentSpec("BruteForceSampler")), url, objective
    )
    tried = [tuple(sorted(trial.params.items())) for trial in stored(url).trials]
    assert len(tried) == len(set(tried)) == 3 + 3 * (3 + 1 + 2 * 2)
    assert "all combinations" in str(coordinator.stop_reason())


@pytest.mark.parametrize("coordination", RUN)
def test_what_is_queued_without_its_condition_fails_alone_with_a_sentence(url: str, coordination: str) -> None:
    study = optuna.create_study(study_name="study", storage=url)
    study.enqueue_trial({"booster": "gbtree", "rate_drop": 0.5})
    study.enqueue_trial({"booster": "dart", "rate_drop": 0.5})
    RUN[coordination](spec_for(search_space=SPACE, trials=4, coordination=coordination), url, objective)
    first, second, *others = stored(url).trials
    assert first.state == TrialState.FAIL
    assert "rate_drop exists only when booster is dart, and here booster is gbtree" in str(error_of(first))
    assert second.params["rate_drop"] == 0.5
    assert {trial.state for trial in (second, *others)} == {TrialState.COMPLETE}


def test_a_study_goes_on_when_a_parameter_gets_a_condition(url: str) -> None:
    free = {name: ParamSpec(p.type, p.low, p.high, p.step, p.log, p.choices) for name, p in SPACE.items()}
    run(spec_for(search_space=free, trials=15), url, lambda trial: value(suggest_params(trial, free)))
    run(spec_for(search_space=SPACE, trials=15, run_id="two"), url, objective)
    assert all("rate_drop" in trial.params for trial in stored(url).trials[:15])
    later = stored(url).trials[15:]
    assert {"rate_drop" in trial.params for trial in later} == {True, False}
    assert all(("rate_drop" in t.params) == (t.params["booster"] == "dart") for t in later)
