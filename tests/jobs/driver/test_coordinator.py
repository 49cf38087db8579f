"""A run that the driver coordinates, from the first ask to the last row: workers in this process, SQLite."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from optuna_spark.errors import StorageError, StudyMismatchError, TrialLimitError, TuningError
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec, ParamSpec, StopSpec
from optuna_spark.storage.trial_marks import error_of, marks_of, run_id_of
from optuna_spark.wire.messages import Outcome
from optuna_spark.worker.driver_source import CoordinatorClient
from tests.support.coordination import (
    XY,
    Coordinator,
    bowl,
    finished,
    run,
    run_into_failure,
    slow,
    spec_for,
    stored,
    work,
    work_in_threads,
)
from tests.support.same_search import assert_same
from tests.support.waiting import wait_until

SPACE = {"x": FloatDistribution(-10, 10), "y": IntDistribution(-5, 5)}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


def test_a_run_finishes_exactly_its_trials_and_a_second_run_adds_exactly_its_own(url: str) -> None:
    run(spec_for(trials=7), url)
    run(spec_for(trials=3, run_id="two"), url)
    assert Counter(run_id_of(t) for t in stored(url)) == {"one": 7, "two": 3}
    assert {t.state for t in stored(url)} == {TrialState.COMPLETE}


def test_many_workers_at_once_finish_exactly_the_budget(url: str) -> None:
    coordinator = run(spec_for(trials=53, tasks=16), url, workers=16)
    trials = stored(url)
    assert [t.number for t in trials] == list(range(53))
    assert coordinator.snapshot().finished == 53
    assert all(t.value == bowl(optuna.trial.FixedTrial(t.params)) for t in trials)


def test_with_one_worker_the_run_is_optunas_own_search_step_by_step(url: str) -> None:
    run(spec_for(trials=30), url)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(bowl, n_trials=30)
    assert_same([{**t.params, "": t.value} for t in stored(url)], [{**t.params, "": t.value} for t in study.trials])


def test_the_same_holds_when_the_space_is_defined_by_running(url: str) -> None:
    run(spec_for(trials=30, search_space={}), url)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(bowl, n_trials=30)
    assert_same([{**t.params, "": t.value} for t in stored(url)], [{**t.params, "": t.value} for t in study.trials])


def test_a_further_run_with_the_same_seed_does_not_repeat_the_first_ones_points(url: str) -> None:
    random = ComponentSpec("RandomSampler")
    run(spec_for(trials=5, sampler=random), url)
    run(spec_for(trials=5, sampler=random, run_id="two"), url)
    assert len({t.params["x"] for t in stored(url)}) == 10


def conditional(trial: Any) -> float:
    """What users do in Optuna: conditions, loops, reports, pruning, attributes, asking twice."""
    kind = trial.suggest_categorical("kind", ["line", "curve", None])
    x = trial.suggest_float("x", 1e-3, 10, log=True)
    if kind == "curve":
        degree = trial.suggest_int("degree", 2, 8, step=2)
        x = x**degree
    trial.set_user_attr("kind is", [kind, trial.number])
    for step in range(5):
        trial.report(abs(x - 2) + step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    assert trial.suggest_categorical("kind", ["line", "curve", None]) == kind
    assert trial.params["x"] == trial.suggest_float("x", 1e-3, 10, log=True)
    return float(abs(x - 2))


def test_an_objective_written_for_optuna_runs_unchanged_and_gives_the_same(url: str) -> None:
    spec = spec_for(trials=40, search_space={}, pruner=ComponentSpec("MedianPruner"))
    run(spec, url, conditional)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1), pruner=optuna.pruners.MedianPruner())
    study.optimize(conditional, n_trials=40)
    ours = stored(url)
    assert Counter(t.state for t in ours).keys() == {TrialState.COMPLETE, TrialState.PRUNED}
    assert_same([t.params for t in ours], [t.params for t in study.trials])
    for mine, optunas in zip(ours, study.trials, strict=True):
        assert (mine.values, mine.state) == (pytest.approx(optunas.values), optunas.state)
        assert mine.intermediate_values == pytest.approx(optunas.intermediate_values)
        assert mine.distributions == optunas.distributions
        assert mine.user_attrs["kind is"] == optunas.user_attrs["kind is"]


def two_values(trial: Any) -> tuple[float, float]:
    x = trial.suggest_float("x", -10, 10)
    with pytest.raises(NotImplementedError):
        trial.report(1.0, 0)
    with pytest.raises(NotImplementedError):
        trial.should_prune()
    return x**2, (x - 2) ** 2


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler"])
def test_several_directions_work(url: str, sampler: str) -> None:
    space = {"x": ParamSpec("float", low=-10, high=10)}
    spec = spec_for(trials=30, search_space=space, directions=("minimize", "minimize"), sampler=ComponentSpec(sampler))
    coordinator = run(spec, url, two_values)
    assert {len(t.values or ()) for t in finished(url)} == {2}
    assert coordinator.snapshot().best_value is None


def constrained(trial: Any) -> float:
    value = bowl(trial)
    trial.set_constraint("x below zero", trial.params["x"])
    assert trial.constraints == {"x below zero": trial.params["x"]}
    return value


def test_constraints_reach_the_sampler_and_the_database(url: str) -> None:
    coordinator = run(spec_for(trials=40), url, constrained)
    trials = stored(url)
    assert all(t.constraints == {"x below zero": t.params["x"]} for t in trials)
    best = min((t for t in trials if t.params["x"] <= 0), key=lambda t: t.value or 0.0)
    assert coordinator.snapshot().best_number == best.number
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1))
    study.optimize(constrained, n_trials=40)
    assert_same([t.params for t in trials], [t.params for t in study.trials])


@pytest.mark.parametrize(
    ("sampler", "args"),
    [
        ("RandomSampler", {}),
        ("TPESampler", {"multivariate": False}),
        ("TPESampler", {"group": True, "multivariate": True}),
        ("NSGAIISampler", {"population_size": 6}),
        ("NSGAIIISampler", {"population_size": 6}),
        ("QMCSampler", {}),
        ("BruteForceSampler", {}),
    ],
)
def test_samplers_run_by_name_and_go_on_after_a_restart(url: str, sampler: str, args: dict[str, Any]) -> None:
    space = {"x": ParamSpec("float", low=0, high=9, step=0.25), "c": ParamSpec("categorical", choices=("a", 1, None))}

    def objective(trial: Any) -> float:
        return float(trial.suggest_float("x", 0, 9, step=0.25)) + float(
            trial.suggest_categorical("c", ["a", 1, None]) == "a"
        )

    for trials in (15, 30):
        run(spec_for(trials=trials, search_space=space, sampler=ComponentSpec(sampler, args)), url, objective, 4)
    assert len(finished(url)) == 30
    if sampler in ("QMCSampler", "BruteForceSampler"):
        assert len({tuple(t.params.items()) for t in stored(url)}) == 30


def test_a_run_ends_when_the_sampler_has_tried_everything(url: str) -> None:
    grid = ComponentSpec("GridSampler", {"search_space": {"x": [-1.0, 0.0, 1.0], "y": [0, 1]}})
    coordinator = run(spec_for(trials=50, sampler=grid), url)
    assert len({(t.params["x"], t.params["y"]) for t in finished(url)}) == 6
    assert "all combinations" in str(coordinator.stop_reason())


def test_known_good_points_are_tried_first_and_once_per_run(url: str) -> None:
    points = ({"x": 2.0, "y": 0}, {"x": 1.0})
    run(spec_for(trials=1, enqueue=points), url)
    run(spec_for(trials=5, enqueue=points), url)
    trials = finished(url)
    assert trials[0].params == {"x": 2.0, "y": 0}
    assert [t.params["x"] for t in trials].count(1.0) == 1


def test_points_a_person_has_queued_in_the_study_are_tried_first(url: str) -> None:
    study = optuna.create_study(study_name="study", storage=url)
    study.enqueue_trial({"x": 3.0, "y": 1}, user_attrs={"by": "a person"})
    run(spec_for(trials=2), url)
    first = stored(url)[0]
    assert (first.params, first.user_attrs["by"], first.state) == ({"x": 3.0, "y": 1}, "a person", TrialState.COMPLETE)


def test_queued_points_that_do_not_fit_fail_alone(url: str) -> None:
    space = XY | {"kind": ParamSpec("categorical", choices=("a", "b"))}
    run(spec_for(trials=4, search_space=space, enqueue=({"kind": "c"}, {"kind": "b"})), url, workers=2)
    trials = stored(url)
    assert [t.state for t in trials].count(TrialState.FAIL) == 1
    assert "do not fit" in str(error_of(next(t for t in trials if t.state == TrialState.FAIL)))
    assert len(finished(url)) == 4


def fails_often(error: type[BaseException], every: int) -> Callable[[Any], float]:
    def objective(trial: Any) -> float:
        if trial.number % every == 1:
            raise error(f"trial {trial.number} cannot be trained")
        return bowl(trial)

    return objective


@pytest.mark.parametrize("error", [ValueError, MemoryError])
def test_failed_trials_are_recorded_and_do_not_eat_the_budget(url: str, error: type[BaseException]) -> None:
    coordinator = run(spec_for(trials=10), url, fails_often(error, every=3))
    failed = stored(url, (TrialState.FAIL,))
    assert len(finished(url)) == 10
    assert coordinator.snapshot().failed == len(failed) == 5
    assert all(error.__name__ in str(error_of(t)) for t in failed)


def test_failed_trials_eat_the_budget_when_they_are_told_to(url: str) -> None:
    for trials in (4, 9):
        spec = spec_for(trials=trials, stop=StopSpec(failures_count=True))
        run(spec, url, fails_often(ValueError, every=3))
        assert len(stored(url)) == trials


def test_not_a_number_is_a_failure(url: str) -> None:
    run(spec_for(trials=3), url, lambda t: float("nan") if t.number == 1 else bowl(t))
    assert [t.state for t in stored(url)].count(TrialState.FAIL) == 1
    assert len(finished(url)) == 3


def test_infinite_values_are_kept(url: str) -> None:
    run(spec_for(trials=3), url, lambda t: float("inf") if t.number == 1 else bowl(t))
    assert stored(url)[1].value == float("inf")


@pytest.mark.parametrize("stop", [StopSpec(max_failures=4), StopSpec(max_consecutive_failures=4)])
def test_too_many_failures_end_the_run_with_the_first_cause(url: str, stop: StopSpec) -> None:
    with pytest.raises(TrialLimitError, match=r"4.*max_.*the first, trial 0.*no such file 0"):
        run(spec_for(stop=stop), url, no_file)
    assert len(stored(url)) == 4


def no_file(trial: Any) -> float:
    bowl(trial)
    raise FileNotFoundError(f"no such file {trial.number}")


def test_a_run_that_failed_can_be_started_again(url: str) -> None:
    with pytest.raises(TrialLimitError):
        run(spec_for(stop=StopSpec(max_failures=2)), url, no_file)
    run(spec_for(stop=StopSpec(max_failures=2)), url)
    assert len(finished(url)) == 10


def test_the_run_stops_at_the_target_value(url: str) -> None:
    spec = spec_for(trials=200, directions=("maximize",), stop=StopSpec(target_value=20.0))
    coordinator = run(spec, url, bowl)
    values = [t.value or 0.0 for t in stored(url)]
    assert values[-1] >= 20 > max(values[:-1])
    assert "target value 20" in str(coordinator.stop_reason())


def test_no_trial_is_started_after_the_timeout_and_running_ones_finish(url: str) -> None:
    coordinator = run(spec_for(trials=1000, timeout_s=0.6), url, slow(0.4), 2)
    assert 2 <= len(finished(url)) <= 4
    assert all(t.state == TrialState.COMPLETE for t in stored(url))
    assert "timeout_s (0.6 s)" in str(coordinator.stop_reason())


def test_the_run_stops_when_optunas_terminator_says_so(url: str) -> None:
    def first_is_best(trial: Any) -> float:
        return bowl(trial) + (1000 if trial.number else 0)

    coordinator = run(spec_for(trials=200, stop=StopSpec(terminator=True)), url, first_is_best)
    assert 30 < len(finished(url)) <= 45
    assert "terminator" in str(coordinator.stop_reason())


def test_a_sampler_that_fails_ends_the_run_and_is_named(url: str) -> None:
    def refuse(n: int) -> int:
        raise RuntimeError("gamma refuses")

    class Broken(optuna.samplers.TPESampler):
        """Fails as soon as it has to model anything."""

        def __init__(self, seed: int | None = None) -> None:
            super().__init__(seed=seed, gamma=refuse)

    optuna.samplers.BrokenSampler = Broken  # type: ignore[attr-defined]
    optuna.samplers.__all__.append("BrokenSampler")
    try:
        with pytest.raises(TuningError, match=r"sampler BrokenSampler failed.*gamma refuses"):
            run(spec_for(trials=20, sampler=ComponentSpec("BrokenSampler")), url)
    finally:
        optuna.samplers.__all__.remove("BrokenSampler")
    assert len(finished(url)) == 10


def test_a_worker_that_comes_when_all_is_done_ends_at_once(url: str) -> None:
    with Coordinator(spec_for(trials=3), url) as coordinator:
        endpoint = coordinator.start()
        assert work(endpoint, bowl) == 3
        assert work(endpoint, bowl) == 0
    with Coordinator(spec_for(trials=3), url) as again:
        assert work(again.start(), bowl) == 0


def test_more_workers_than_trials_share_them(url: str) -> None:
    with Coordinator(spec_for(trials=3, tasks=8), url) as coordinator:
        counts = work_in_threads(coordinator.start(), slow(0.1), 8)
        assert coordinator.wait_finished(1)
    assert sum(counts) == len(stored(url)) == 3


def test_running_trials_and_their_progress_are_visible_in_the_database_meanwhile(url: str) -> None:
    seen: list[optuna.trial.FrozenTrial] = []

    def chatty(trial: Any) -> float:
        value = bowl(trial)
        trial.set_user_attr("phase", "training")
        steps = itertools.count()

        def is_visible() -> bool:
            step = next(steps)
            trial.report(step, step)
            seen[:] = stored(url)
            return bool(seen) and len(seen[0].intermediate_values) >= 5

        wait_until(is_visible, "five reports in the database", every_s=0.2)
        return value

    run(spec_for(trials=1), url, chatty)
    assert seen[0].state == TrialState.RUNNING
    assert seen[0].params.keys() == {"x", "y"}
    assert seen[0].user_attrs["phase"] == "training"
    assert marks_of(seen[0]).worker == "test:1"


@pytest.mark.parametrize(("long_s", "at_once"), [(1000.0, 1), (0.0, 0)])
def test_a_told_trial_is_in_the_database_before_the_next_one_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch, long_s: float, at_once: int
) -> None:
    monkeypatch.setattr("optuna_spark.driver.dispatch.dispatcher.LONG_S", long_s)
    with Coordinator(spec_for(trials=5), url) as coordinator:
        endpoint = coordinator.start()
        client = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, "test:1")
        told = 0
        while (trial := client.ask()) is not None:
            client.tell(trial, Outcome(TrialState.COMPLETE, (bowl(trial),)))
            assert len(finished(url)) >= told + at_once
            told += 1
        client.close()
    assert told == 5


@pytest.mark.parametrize(("long_s", "begun_at_most"), [(1000.0, 3), (0.0, 4)])
def test_a_driver_started_again_stops_the_forgotten_one_and_resumes_its_run(
    url: str, monkeypatch: pytest.MonkeyPatch, long_s: float, begun_at_most: int
) -> None:
    monkeypatch.setattr("optuna_spark.driver.dispatch.dispatcher.LONG_S", long_s)

    def restart(trial: Any) -> float:
        if trial.number == 2:
            run(spec_for(trials=6), url)
        return bowl(trial)

    with Coordinator(spec_for(trials=6), url) as forgotten:
        # After a long trial its worker may have begun the next one before the long one was refused.
        assert 3 <= work(forgotten.start(), restart) <= begun_at_most
        assert forgotten.wait_finished(10)
        with pytest.raises(StorageError, match="taken from this run"):
            forgotten.raise_if_failed()
    assert len(finished(url)) == 6


def test_long_studies_show_the_sampler_all_trials(url: str) -> None:
    shown = []

    class Watching(optuna.samplers.RandomSampler):
        """Notes the trials that it is shown."""

        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            shown.append([t.number for t in study.get_trials(deepcopy=False)])
            return super().sample_independent(study, trial, name, distribution)

    optuna.samplers.WatchingSampler = Watching  # type: ignore[attr-defined]
    optuna.samplers.__all__.append("WatchingSampler")
    try:
        spec = spec_for(trials=300, sampler=ComponentSpec("WatchingSampler"), coordinator=CoordinatorSpec(history=100))
        run(spec, url)
    finally:
        optuna.samplers.__all__.remove("WatchingSampler")
    assert shown[-1] == list(range(300))


def test_a_port_that_is_taken_is_an_error_that_says_what_to_set(url: str, tmp_path: Path) -> None:
    with Coordinator(spec_for(), url) as first:
        taken = CoordinatorSpec(port=first.start().port)
        other = f"sqlite:///{tmp_path}/other.sqlite3"
        with (
            pytest.raises(TuningError, match=r"cannot listen.*coordinator\.port"),
            Coordinator(spec_for(coordinator=taken), other) as second,
        ):
            second.start()


def test_a_port_can_be_fixed_and_used_again_at_once(url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for trials in (1, 2):
        spec = spec_for(trials=trials, coordinator=CoordinatorSpec(port=port))
        with Coordinator(spec, url) as coordinator:
            endpoint = coordinator.start("localhost")
            assert endpoint.port == port
            assert work(endpoint, bowl) == 1


def test_a_study_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(StorageError), Coordinator(spec_for(), f"sqlite:///{tmp_path}/no/such/folder.db") as broken:
        broken.start()


def test_a_search_space_that_does_not_fit_the_stored_one_is_refused_before_anything_runs(url: str) -> None:
    run(spec_for(trials=1), url)
    for now, other in {
        "int 0 to 1": ParamSpec("int", low=0, high=1),
        "one of a": ParamSpec("categorical", choices=("a",)),
    }.items():
        spec = spec_for(trials=2, search_space={"x": other})
        with pytest.raises(StudyMismatchError, match=f"parameter x: stored float -10 to 10, now {now}"):
            run(spec, url)
    run(spec_for(trials=2, search_space={"x": ParamSpec("float", low=0, high=1), "y": XY["y"]}), url)
    assert len(stored(url)) == 2


REFUSE = "CREATE TRIGGER refuse BEFORE INSERT ON trials BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"


def test_a_first_write_that_fails_before_workers_come_ends_the_run_before_any_trial(url: str, tmp_path: Path) -> None:
    optuna.create_study(study_name="study", storage=url)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.sqlite3")) as database:
        database.execute(REFUSE)
    with Coordinator(spec_for(enqueue=({"x": 1.0},)), url) as coordinator:
        loaded = coordinator.open()
        wait_until(lambda: loaded.storage_error is not None, "the first write to fail")
        with pytest.raises(StorageError, match="the disk is full"):
            coordinator.start()
    assert stored(url) == []


def test_a_first_write_that_fails_as_workers_come_ends_the_run(url: str, tmp_path: Path) -> None:
    optuna.create_study(study_name="study", storage=url)
    with contextlib.closing(sqlite3.connect(tmp_path / "study.sqlite3")) as database:
        database.execute(REFUSE)
    with pytest.raises(StorageError, match="the disk is full"):
        run_into_failure(spec_for(enqueue=({"x": 1.0},)), url, bowl, 60)
    assert stored(url) == []
