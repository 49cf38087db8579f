"""A worker's trial answers as Optuna's own Trial does, right or wrong."""

from __future__ import annotations

import datetime
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.limits import TEXT_BYTES
from optuna_spark.storage.trial_marks import error_of
from optuna_spark.wire.messages import Outcome
from optuna_spark.worker.driver_source import CoordinatorClient
from tests.jobs.worker.conftest import Worker
from tests.support.coordination import Coordinator, bowl, run, run_one, spec_for, stored

Action = Callable[[Any], Any]

ACTIONS: dict[str, Action] = {
    "suggest everything": lambda t: (
        t.suggest_float("a", 0, 1),
        t.suggest_float("b", 1e-5, 1, log=True),
        t.suggest_float("c", 0, 1, step=0.25),
        t.suggest_int("d", -5, 5),
        t.suggest_int("e", 1, 64, log=True),
        t.suggest_int("f", 0, 10, step=5),
        t.suggest_categorical("g", ["x", None, 1.5, True]),
    ),
    "the old names": lambda t: (
        t.suggest_uniform("a", 0, 1),
        t.suggest_loguniform("b", 0.1, 1),
        t.suggest_discrete_uniform("c", 0, 1, 0.5),
    ),
    "types": lambda t: (type(t.suggest_int("i", 1, 3)), type(t.suggest_float("f", 1, 3)), type(t.number)),
    "one value only": lambda t: (t.suggest_int("a", 3, 3), t.suggest_categorical("b", ["only"])),
    "a tuple of choices": lambda t: t.suggest_categorical("a", (1, 2)),
    "twice the same": lambda t: t.suggest_float("a", 0, 1) == t.suggest_float("a", 0, 1),
    "twice with another range": lambda t: t.suggest_float("a", 0, 1) == t.suggest_float("a", 0, 5),
    "twice with another kind": lambda t: (t.suggest_float("a", 0, 1), t.suggest_int("a", 0, 1)),
    "twice with other choices": lambda t: (t.suggest_categorical("a", [1]), t.suggest_categorical("a", [2])),
    "low above high": lambda t: t.suggest_float("a", 2, 1),
    "log of zero": lambda t: t.suggest_float("a", 0, 1, log=True),
    "log and step": lambda t: t.suggest_float("a", 1, 2, log=True, step=0.1),
    "no choices": lambda t: t.suggest_categorical("a", []),
    "int with bad step": lambda t: t.suggest_int("a", 1, 5, step=0),
    "report and ask": lambda t: (
        t.report(1.0, 0),
        t.report("2.5", 1),
        t.report(np.float32(3), np.int64(2)),
        t.should_prune(),
    ),
    "report a word": lambda t: t.report("high", 0),
    "report at a word": lambda t: t.report(1.0, "first"),
    "report below zero": lambda t: t.report(1.0, -1),
    "report nan": lambda t: (t.report(math.nan, 0), t.should_prune()),
    "report twice": lambda t: (t.report(1.0, 0), t.report(2.0, 0)),
    "prune before a report": lambda t: t.should_prune(),
    "attributes": lambda t: (t.set_user_attr("k", [1, {"a": None}]), t.user_attrs["k"]),
    "an attribute twice": lambda t: (t.set_user_attr("k", 1), t.set_user_attr("k", 2), t.user_attrs["k"]),
    "an attribute that is no JSON": lambda t: t.set_user_attr("k", {1, 2}),
    "an attribute of numpy's": lambda t: t.set_user_attr("k", np.int64(1)),
    "params are copies": lambda t: (t.suggest_int("a", 1, 1), t.params.clear(), t.params),
    "distributions": lambda t: (t.suggest_float("a", 0, 1), t.distributions),
    "number": lambda t: t.number,
    "start": lambda t: isinstance(t.datetime_start, datetime.datetime) and t.datetime_start.tzinfo,
    "constraints": lambda t: (t.set_constraint("c", "1.5"), t.constraints),
    "a constraint twice": lambda t: (t.set_constraint("c", 1), t.set_constraint("c", 2), t.constraints),
    "a constraint that is no number": lambda t: t.set_constraint("c", "x"),
    "a constraint that is nan": lambda t: t.set_constraint("c", math.nan),
    "relative parameters": lambda t: (t.relative_search_space, t.relative_params, t.relative_search_space),
    "direction": lambda t: (t.study.direction, t.study.directions, t.study.study_name),
    "metric names": lambda t: t.study.metric_names in (None, ["value"]),
    "attributes of the study": lambda t: (t.study.set_user_attr("k", 1), t.study.user_attrs),
    "complete trials": lambda t: (t.study.get_trials(states=[TrialState.COMPLETE]), t.study.best_trials),
    "how many trials": lambda t: len(t.study.trials),
    "queue": lambda t: (t.study.enqueue_trial({"x": 1}), t.study.trials[1].state, t.study.trials[1].system_attrs),
    "queue no dict": lambda t: t.study.enqueue_trial([1]),
    "too many metric names": lambda t: t.study.set_metric_names(["a", "b"]),
}


def outcome_of(action: Action, trial: Any) -> tuple[str, Any, list[str]]:
    """What the caller sees: a result or an exception, and the kinds of warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = ("returned", action(trial))
        except Exception as error:  # noqa: BLE001  # the kind of error is what is compared
            result = ("raised", f"{type(error).__name__}: {error}")
    kinds = sorted({type(w.message).__name__ for w in caught if "deprecated" not in str(w.message)})
    return (*result, kinds)


@pytest.mark.parametrize("name", list(ACTIONS))
def test_it_answers_as_optunas_trial(name: str, worker: Worker, tables: Path, tmp_path: Path) -> None:
    seen: list[Any] = []

    def objective(trial: Any) -> float:
        seen.append(outcome_of(ACTIONS[name], trial))
        return 1.0

    source = worker()
    run_one(source, objective)
    sampler = optuna.samplers.TPESampler(seed=1)
    url = f"sqlite:///{shutil.copy(tables, tmp_path / 'optuna')}"  # its storage in memory takes what is no JSON
    study = optuna.create_study(study_name="study", storage=url, sampler=sampler, pruner=optuna.pruners.NopPruner())
    study.optimize(objective, n_trials=1)
    assert seen[0] == seen[1]
    trial = source.ask()
    assert trial is not None
    ours, optunas = trial.study.trials[0], study.trials[0]
    assert repr(ours.params) == repr(optunas.params)
    assert ours.distributions == optunas.distributions
    assert repr(ours.intermediate_values) == repr(optunas.intermediate_values)
    assert ours.constraints == optunas.constraints


def in_trial(spec: TuningSpec, tmp_path: Path, objective: Action) -> optuna.trial.FrozenTrial:
    url = f"sqlite:///{tmp_path}/one.sqlite3"
    run(spec.with_changes(trials=1), url, lambda t: (objective(t), 1.0)[1])
    return stored(url)[0]


def test_declared_parameters_are_sampled_when_the_trial_begins(tmp_path: Path) -> None:
    def objective(trial: Any) -> None:
        assert trial.params.keys() == trial.distributions.keys() == {"x", "y"}
        assert trial.suggest_float("x", -10, 10) == trial.params["x"]
        assert trial.suggest_int("undeclared", 3, 3) == 3

    trial = in_trial(spec_for(), tmp_path, objective)
    assert trial.state == TrialState.COMPLETE
    assert trial.params.keys() == {"x", "y", "undeclared"}


def test_a_declared_parameter_asked_for_with_another_range_is_warned_about(tmp_path: Path) -> None:
    def objective(trial: Any) -> None:
        with pytest.warns(RuntimeWarning, match="Inconsistent"):
            trial.suggest_float("x", -100, 100)
        with pytest.raises(ValueError, match="distribution"):
            trial.suggest_categorical("x", ["a"])

    assert in_trial(spec_for(), tmp_path, objective).state == TrialState.COMPLETE


def test_choices_keep_their_types(tmp_path: Path) -> None:
    choices = (True, 1.5, 7, "7", None)
    space = {f"c{n}": ParamSpec("categorical", choices=choices) for n in range(10)}

    def objective(trial: Any) -> None:
        for name, value in trial.params.items():
            assert any(value is c or (value == c and type(value) is type(c)) for c in choices), name

    assert in_trial(spec_for(search_space=space), tmp_path, objective).state == TrialState.COMPLETE


@pytest.mark.parametrize(
    "action",
    [
        lambda t: t.set_user_attr("k", "x" * TEXT_BYTES),
        lambda t: t.set_user_attr("k" * 513, 1),
        lambda t: t.suggest_float("p" * 513, 0, 1),
        lambda t: t.report(1.0, 2**31),
    ],
)
def test_what_the_database_cannot_hold_fails_the_trial_alone(tmp_path: Path, action: Action) -> None:
    url = f"sqlite:///{tmp_path}/one.sqlite3"

    def objective(trial: Any) -> float:
        if trial.number == 1:
            action(trial)
        return bowl(trial)

    run(spec_for(trials=3), url, objective)
    assert [t.state for t in stored(url)].count(TrialState.FAIL) == 1


def test_ranges_may_change_between_trials_and_choices_may_not(tmp_path: Path) -> None:
    def objective(trial: Any) -> float:
        if trial.number == 2:
            with pytest.raises(ValueError, match="parameter c: stored one of a, b, now one of a, b, c"):
                trial.suggest_categorical("c", ["a", "b", "c"])
        return float(trial.suggest_float("x", 0, trial.number + 1)) + len(trial.suggest_categorical("c", ["a", "b"]))

    url = f"sqlite:///{tmp_path}/one.sqlite3"
    for budget in (1, 4):
        run(spec_for(search_space={}, trials=budget), url, objective)
    trials = stored(url)
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 4
    assert trials[3].distributions["x"] == FloatDistribution(0, 4)


def test_reports_without_asking_reach_the_database_with_the_result(tmp_path: Path) -> None:
    def objective(trial: Any) -> None:
        for step in range(1000):
            trial.report(step / 7, step)

    trial = in_trial(spec_for(), tmp_path, objective)
    assert trial.intermediate_values == {step: step / 7 for step in range(1000)}


def test_a_long_error_is_cut_and_keeps_its_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/one.sqlite3"
    with Coordinator(spec_for(trials=1), url) as coordinator:
        endpoint = coordinator.start()
        client = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, "test:1")
        trial = client.ask()
        assert trial is not None
        client.tell(trial, Outcome(TrialState.FAIL, error="x" * 10**6 + "the end"))
        client.close()
    error = str(error_of(stored(url)[0]))
    assert len(error) < 10_000
    assert error.endswith("the end")
