"""Samplers and pruners that raise: their trial fails with their name and cause, or the run when they go on."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_spark.driver.dispatch.assignments import Assignments, Now
from optuna_spark.driver.dispatch.study import StoredStudy
from optuna_spark.errors import TrialLimitError
from optuna_spark.spec.sections import ComponentSpec, ParamSpec, StopSpec
from optuna_spark.storage.trial_marks import ERROR
from optuna_spark.trial_callback import NOBODY
from optuna_spark.wire.messages import Outcome, Worker
from tests.support.both_ways import Left, run
from tests.support.coordination import spec_for
from tests.support.notebook import Notebook

SPACE = {"x": ParamSpec("float", 0, 1), "y": ParamSpec("int", 1, 9)}
# The methods in which a sampler may raise.
METHODS = ["before_trial", "infer_relative_search_space", "sample_relative", "sample_independent", "after_trial"]
NOW = Now(datetime.datetime(2026, 1, 1), 0.0)


class Flaky(optuna.samplers.RandomSampler):
    """Raises in one method: on some trials."""

    fails_in = ""
    fails_on: Callable[[int], bool]

    def _fail(self, method: str, trial: optuna.trial.FrozenTrial) -> None:
        if method == type(self).fails_in and type(self).fails_on(trial.number):
            raise ArithmeticError(f"no luck in {method}")

    def before_trial(self, study: optuna.Study, trial: Any) -> None:
        self._fail("before_trial", trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, Any]:
        self._fail("infer_relative_search_space", trial)
        return super().infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> dict[str, Any]:
        self._fail("sample_relative", trial)
        return super().sample_relative(study, trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: Any, name: str, distribution: Any) -> Any:
        self._fail("sample_independent", trial)
        return super().sample_independent(study, trial, name, distribution)

    def after_trial(self, study: optuna.Study, trial: Any, state: TrialState, values: Any) -> None:
        self._fail("after_trial", trial)


class FlakyPruner(optuna.pruners.NopPruner):
    """Raises on some trials."""

    fails_on: Callable[[int], bool]

    def prune(self, study: optuna.Study, trial: Any) -> bool:
        if type(self).fails_on(trial.number):
            raise ArithmeticError("no luck in prune")
        return False


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Makes sampler and pruner of a run of which one method raises on some trials."""
    monkeypatch.setattr(optuna.samplers, "FlakySampler", Flaky, raising=False)
    monkeypatch.setattr(optuna.samplers, "__all__", [*optuna.samplers.__all__, "FlakySampler"])
    monkeypatch.setattr(optuna.pruners, "FlakyPruner", FlakyPruner, raising=False)
    monkeypatch.setattr(optuna.pruners, "__all__", [*optuna.pruners.__all__, "FlakyPruner"])

    def one(method: str, fails_on: Callable[[int], bool]) -> dict[str, Any]:
        monkeypatch.setattr(Flaky, "fails_in", method)
        monkeypatch.setattr(Flaky, "fails_on", staticmethod(fails_on), raising=False)
        never = staticmethod(lambda number: False)
        on = staticmethod(fails_on) if method == "prune" else never
        monkeypatch.setattr(FlakyPruner, "fails_on", on, raising=False)
        return {"sampler": ComponentSpec("FlakySampler"), "pruner": ComponentSpec("FlakyPruner")}

    return one


def named(method: str) -> str:
    who = "pruner FlakyPruner" if method == "prune" else "sampler FlakySampler"
    return f"{who} failed: ArithmeticError: no luck in {method}"


def objective(trial: Any) -> float:
    value = float(trial.suggest_float("x", 0, 1) + trial.suggest_int("y", 1, 9))
    trial.report(value, 0)
    trial.should_prune()
    return value


@pytest.fixture(params=["driver", "database"])
def run_of(request: pytest.FixtureRequest, tables: Path, tmp_path: Path) -> Callable[..., Left]:
    def one(workers: int, **changes: Any) -> Left:
        return run(spec_for(coordination=request.param, **changes), objective, workers, tables, tmp_path)

    return one


@pytest.mark.parametrize("method", [*METHODS, "prune"])
@pytest.mark.parametrize("space", [SPACE, {}], ids=["declared", "in_objective"])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_one_failure_ends_its_trial_with_its_cause_and_no_other(
    run_of: Callable[..., Left], flaky: Callable[..., dict[str, Any]], method: str, space: Any, workers: int
) -> None:
    left = run_of(workers, trials=9, search_space=space, **flaky(method, lambda number: number in (2, 5)))
    assert left.error is None
    assert [t.number for t in left.trials if t.state == TrialState.FAIL] == [2, 5]
    assert {str(t.error).splitlines()[-1].removeprefix("RuntimeError: ") for t in left.trials if t.error} == {
        named(method)
    }
    assert [t.number for t in left.trials] == list(range(11))
    assert left.count(TrialState.COMPLETE) == 9


@pytest.mark.parametrize("method", [*METHODS, "prune"])
@pytest.mark.parametrize("space", [SPACE, {}], ids=["declared", "in_objective"])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_run_whose_sampler_goes_on_raising_fails_with_its_name_and_cause(
    run_of: Callable[..., Left], flaky: Callable[..., dict[str, Any]], method: str, space: Any, workers: int
) -> None:
    stop = StopSpec(max_consecutive_failures=4)
    left = run_of(workers, trials=99, search_space=space, stop=stop, **flaky(method, lambda number: number >= 3))
    assert isinstance(left.error, TrialLimitError)
    assert "4 trials failed in a row, stop.max_consecutive_failures is 4; the first, trial " in str(left.error)
    assert named(method) in str(left.error)
    assert [t.number for t in left.trials] == list(range(len(left.trials)))
    assert left.count(TrialState.RUNNING) == 0


@pytest.mark.parametrize("method", METHODS[:-1])
@pytest.mark.parametrize("space", [SPACE, {}], ids=["declared", "in_objective"])
def test_a_failure_while_sampling_ahead_leaves_no_number_row_or_count(
    flaky: Callable[..., dict[str, Any]], method: str, space: Any
) -> None:
    failing = {1, 2, 5}
    spec = spec_for(trials=8, search_space=space, **flaky(method, lambda number: number in failing))
    journal, worker, done = Notebook(), Worker(1, "test:1"), 0
    trials = Assignments(spec, StoredStudy([StudyDirection.MINIMIZE], (), {}), journal, NOBODY)
    while not trials.over:
        while trials.wants_ahead(16):
            trials.sample_ahead()
        assert trials.budget.started == len(trials._ahead) + trials.running
        assert trials.budget.spent + trials.budget.started <= 8
        assignment = trials.ask(worker, NOW)
        assert assignment is not None
        if not space:
            with contextlib.suppress(RuntimeError):
                trials.suggest(worker, assignment.number, "x", optuna.distributions.FloatDistribution(0, 1), NOW)
        trials.tell(worker, assignment.number, Outcome(TrialState.COMPLETE, (1.0,)))
        trials.settle()
        done += 1
    trials.close()
    assert done == trials.budget.finished == 8
    assert trials.budget.started == 0
    assert sorted(journal.records) == list(range(len(journal.records)))
    assert {r.state for r in journal.records.values()} <= {TrialState.COMPLETE, TrialState.FAIL}
    errors = [r.system_attrs[ERROR] for r in journal.records.values() if r.state == TrialState.FAIL]
    assert all(named(method) in error for error in errors)
    assert len(errors) == trials.budget.failed == len(journal.records) - 8
