"""Whole runs with Grid and brute force: as many trials as points, under either coordination."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from init.local.mysql import MysqlServer
from optuna_spark.spec.sections import ComponentSpec, ParamSpec, StopSpec
from optuna_spark.stop_and_retry import EXHAUSTED, LOST
from optuna_spark.storage.trial_marks import error_of
from optuna_spark.worker.worker import run_trial
from tests.support.both_ways import Left, run
from tests.support.coordination import new_database, spec_for, stored
from tests.support.shared import next_trial, started, work_in_threads, worker_of

SPACE = {"x": ParamSpec("int", 1, 5), "y": ParamSpec("int", 1, 2)}
POINTS = {(x, y) for x in range(1, 6) for y in range(1, 3)}
GRID = ComponentSpec("GridSampler", {"search_space": {"x": [1, 2, 3, 4, 5], "y": [1, 2]}})
BRUTE = ComponentSpec("BruteForceSampler")
SAMPLERS = pytest.mark.parametrize("sampler", [GRID, BRUTE], ids=["grid", "brute"])
DECLARED = pytest.mark.parametrize("space", [SPACE, {}], ids=["declared", "in_objective"])


def two_numbers(trial: Any) -> float:
    return float(trial.suggest_int("x", 1, 5) + trial.suggest_int("y", 1, 2))


@pytest.fixture(params=["driver", "database"])
def run_of(request: pytest.FixtureRequest, tables: Path, tmp_path: Path) -> Callable[..., Left]:
    def one(objective: Callable[[Any], float], workers: int, **changes: Any) -> Left:
        spec = spec_for(**{"trials": 50, "coordination": request.param, **changes})
        return run(spec, objective, workers, tables, tmp_path)

    return one


@SAMPLERS
@DECLARED
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_ten_points_are_exactly_ten_trials(
    run_of: Callable[..., Left], sampler: ComponentSpec, space: dict[str, ParamSpec], workers: int
) -> None:
    left = run_of(two_numbers, workers, sampler=sampler, search_space=space)
    assert Counter((t.params["x"], t.params["y"]) for t in left.trials) == Counter(POINTS)
    assert left.count(TrialState.COMPLETE) == 10
    assert left.reason == EXHAUSTED
    assert left.error is None


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_brute_force_finds_the_branches_that_only_some_trials_have(run_of: Callable[..., Left], workers: int) -> None:
    def branches(trial: Any) -> float:
        if trial.suggest_int("kind", 0, 1):
            return float(trial.suggest_int("n", 0, 6, step=2))
        return float(trial.suggest_float("f", 0.0, 0.5, step=0.25))

    left = run_of(branches, workers, sampler=BRUTE, search_space={})
    found = Counter(tuple(sorted(t.params.items())) for t in left.trials)
    numbers = [(("kind", 1), ("n", n)) for n in (0, 2, 4, 6)]
    assert found == Counter([*numbers, *[(("f", f), ("kind", 0)) for f in (0.0, 0.25, 0.5)]])
    assert left.reason == EXHAUSTED


@SAMPLERS
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_an_objective_that_stops_its_study_ends_the_run(
    run_of: Callable[..., Left], sampler: ComponentSpec, workers: int
) -> None:
    def stops(trial: Any) -> float:
        trial.study.stop()
        return two_numbers(trial)

    left = run_of(stops, workers, sampler=sampler, search_space=SPACE)
    assert 1 <= len(left.trials) <= workers + 1  # one may have been sampled ahead
    assert "called study.stop()" in str(left.reason)
    assert {t.state for t in left.trials} == {TrialState.COMPLETE}


@SAMPLERS
@DECLARED
@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("early", [True, False])
def test_the_points_of_workers_that_die_are_evaluated_again_by_others(
    tables: Path, tmp_path: Path, sampler: ComponentSpec, space: dict[str, ParamSpec], workers: int, early: bool
) -> None:
    """With coordination database; test_assigned_points has the driver's."""
    url = f"sqlite:///{shutil.copy(tables, tmp_path)}"
    spec = spec_for(trials=50, coordination="database", sampler=sampler, search_space=space)
    with started(spec, url) as driver:
        dead = 1 if early and sampler is BRUTE and not space else 3  # others wait for the first one's parameters
        for n in range(dead):
            with worker_of(driver, f"dies:{n}") as source:
                trial = next_trial(source)
                if not early:
                    trial.suggest_int("x", 1, 5)
        (_, held) = driver._run.tally()
        waiting = threading.Thread(target=work_in_threads, args=(driver, workers, two_numbers))
        waiting.start()  # they evaluate all other points, and wait for these
        for claim in held:
            driver._run.release(claim)  # as a worker does that has seen no beat for long
        waiting.join(240)
        assert not waiting.is_alive()
        assert driver.stop_reason() == EXHAUSTED
    trials = stored(url)
    done = Counter((t.params["x"], t.params["y"]) for t in trials if t.state == TrialState.COMPLETE)
    assert done == Counter(POINTS)
    assert [error_of(t) for t in trials if t.state != TrialState.COMPLETE] == [LOST] * dead


@SAMPLERS
@DECLARED
def test_workers_on_mysql_share_the_points_too(
    mysql_server: MysqlServer, sampler: ComponentSpec, space: dict[str, ParamSpec]
) -> None:
    url = new_database(mysql_server)
    spec = spec_for(trials=50, coordination="database", sampler=sampler, search_space=space)
    with started(spec, url) as driver:
        assert work_in_threads(driver, 8, two_numbers) == 10
        assert driver.stop_reason() == EXHAUSTED
    assert Counter((t.params["x"], t.params["y"]) for t in stored(url)) == Counter(POINTS)


@SAMPLERS
def test_a_run_that_is_started_again_evaluates_what_its_first_start_left(
    tables: Path, tmp_path: Path, sampler: ComponentSpec
) -> None:
    url = f"sqlite:///{shutil.copy(tables, tmp_path)}"
    spec = spec_for(
        trials=50, coordination="database", sampler=sampler, search_space=SPACE, stop=StopSpec(max_retries=3)
    )
    for dead in (2, 1, 0):
        with started(spec, url) as driver:
            sources = [worker_of(driver, f"dies:{n}") for n in range(dead)]
            for source in sources:
                next_trial(source.__enter__())
            with worker_of(driver, "lives") as lives:
                for _ in range(2):
                    trial = next_trial(lives)
                    lives.tell(trial, run_trial(two_numbers, trial, 1))
            if not dead:
                work_in_threads(driver, 2, two_numbers)
                assert driver.stop_reason() == EXHAUSTED
    done = Counter((t.params["x"], t.params["y"]) for t in stored(url) if t.state == TrialState.COMPLETE)
    assert done == Counter(POINTS)
