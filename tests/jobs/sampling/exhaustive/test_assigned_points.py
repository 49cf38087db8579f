"""Grid and brute force in the driver: every point once, whatever happens to the workers, in whatever order."""

from __future__ import annotations

import datetime
import random
from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.driver.dispatch.assignments import Assignments, Now
from optuna_spark.driver.dispatch.study import StoredStudy
from optuna_spark.errors import SpecError
from optuna_spark.sampling.build import build_sampler
from optuna_spark.spec.sections import ComponentSpec, ParamSpec, StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import CUT_OFF, EXHAUSTED, LOST
from optuna_spark.storage.trial_marks import POINT, error_of
from optuna_spark.trial_callback import NOBODY
from optuna_spark.wire.messages import Assignment, Outcome, Worker
from tests.support.coordination import spec_for
from tests.support.notebook import Notebook

NOW = Now(datetime.datetime(2026, 1, 1), 0.0)
COMPLETE, FAILED = Outcome(TrialState.COMPLETE, (1.0,)), Outcome(TrialState.FAIL, error="ValueError: no")
GRID = ComponentSpec("GridSampler", {"search_space": {"x": [1, 2, 3, 4, 5], "y": [1, 2]}})
BRUTE = ComponentSpec("BruteForceSampler")
SPACE = {"x": ParamSpec("int", 1, 5), "y": ParamSpec("int", 1, 2)}
POINTS = {(x, y) for x in range(1, 6) for y in range(1, 3)}
DECLARED = pytest.mark.parametrize("space", [SPACE, {}], ids=["declared", "in_objective"])
SAMPLERS = pytest.mark.parametrize("sampler", [GRID, BRUTE], ids=["grid", "brute"])
WORKERS = pytest.mark.parametrize("workers", [1, 2, 8])


def assignments_of(spec: TuningSpec, stored: tuple[FrozenTrial, ...] = ()) -> Assignments:
    return Assignments(spec, StoredStudy([StudyDirection.MINIMIZE], stored, {}), Notebook(len(stored)), NOBODY)


def spec(sampler: ComponentSpec, **changes: Any) -> TuningSpec:
    return spec_for(**{"trials": 50, "tasks": 8, "search_space": SPACE, "sampler": sampler, **changes})


def trials_of(assignments: Assignments) -> list[FrozenTrial]:
    return assignments._study.trials()


def points(assignments: Assignments, *states: TrialState) -> Counter[tuple[int, ...]]:
    """How often each point has ended like this."""
    return Counter((t.params["x"], t.params["y"]) for t in trials_of(assignments) if t.state in states)


class Workers:
    """A fixed number of them. One that dies is replaced by a new one at once."""

    def __init__(self, assignments: Assignments, count: int, seed: int) -> None:
        self.assignments, self.chance = assignments, random.Random(seed)
        self.born = count
        self.idle = [Worker(n, f"test:{n}") for n in range(count)]
        self.busy: dict[Worker, Assignment] = {}

    def work(self, deadly: float = 0.0, failing: float = 0.0) -> None:
        """Until the run is over.

        Args:
            deadly: Share of the trials that kill their worker.
            failing: Share of those that fail.
        """
        for _ in range(100_000):
            if self.assignments.over:
                return
            if self.assignments.wants_ahead(len(self.idle) + len(self.busy)):
                self.assignments.sample_ahead()
            if self.chance.random() < 0.5:
                self.ask()
            else:
                self.end(deadly, failing)
        raise AssertionError("the run goes on for ever")

    def ask(self) -> None:
        if self.idle and (assignment := self.assignments.ask(self.idle[0], NOW)) is not None:
            self.busy[self.idle.pop(0)] = assignment

    def end(self, deadly: float, failing: float) -> None:
        if not self.busy:
            return
        worker = self.chance.choice(list(self.busy))
        number = self.busy.pop(worker).number
        died_early = self.chance.random() < deadly / 2
        if not died_early:
            for name, param in SPACE.items():  # as an objective does, whose search space may be declared or not
                assert param.low is not None
                assert param.high is not None
                distribution = IntDistribution(int(param.low), int(param.high))
                self.assignments.suggest(worker, number, name, distribution, NOW)
        if died_early or self.chance.random() < deadly / 2:
            self.assignments.leave(worker)
            self.born += 1
            self.idle.append(Worker(self.born, f"test:{self.born}"))
            return
        self.assignments.tell(worker, number, FAILED if self.chance.random() < failing else COMPLETE)
        self.assignments.settle()
        self.idle.append(worker)


@WORKERS
@SAMPLERS
@DECLARED
@pytest.mark.parametrize("seed", range(5))
def test_ten_points_are_exactly_ten_trials(
    sampler: ComponentSpec, workers: int, space: dict[str, ParamSpec], seed: int
) -> None:
    assignments = assignments_of(spec(sampler, search_space=space, seed=seed))
    Workers(assignments, workers, seed).work()
    assert points(assignments, TrialState.COMPLETE) == Counter(POINTS)
    assert len(trials_of(assignments)) == 10
    assert assignments.budget.reason == EXHAUSTED
    assert assignments.budget.finished == 10
    assert assignments.budget.started == 0


@WORKERS
@SAMPLERS
@DECLARED
@pytest.mark.parametrize("seed", range(10))
def test_the_points_of_dead_workers_are_evaluated_again_and_none_is_left_out(
    sampler: ComponentSpec, workers: int, space: dict[str, ParamSpec], seed: int
) -> None:
    stop = StopSpec(max_retries=1000)
    assignments = assignments_of(spec(sampler, search_space=space, seed=seed, stop=stop))
    Workers(assignments, workers, seed).work(deadly=0.5)
    assert points(assignments, TrialState.COMPLETE) == Counter(POINTS)
    assert {error_of(t) for t in trials_of(assignments) if t.state == TrialState.FAIL} <= {LOST}
    assert assignments.budget.reason == EXHAUSTED


@WORKERS
@SAMPLERS
def test_a_point_that_kills_every_worker_is_given_up(sampler: ComponentSpec, workers: int) -> None:
    stop = StopSpec(max_retries=2, max_consecutive_failures=1000)
    assignments = assignments_of(spec(sampler, stop=stop))
    Workers(assignments, workers, 1).work(deadly=2.0)
    assert points(assignments, TrialState.FAIL) == Counter(POINTS) + Counter(POINTS) + Counter(POINTS)
    assert assignments.budget.failed == 10


@WORKERS
@SAMPLERS
@DECLARED
def test_the_point_of_a_failed_trial_is_not_tried_again_as_with_optuna(
    sampler: ComponentSpec, workers: int, space: dict[str, ParamSpec]
) -> None:
    assignments = assignments_of(
        spec(sampler, search_space=space, stop=StopSpec(max_consecutive_failures=1000), seed=3)
    )
    Workers(assignments, workers, 3).work(failing=0.5)
    assert points(assignments, TrialState.COMPLETE, TrialState.FAIL) == Counter(POINTS)
    assert assignments.budget.failed > 0


@SAMPLERS
@pytest.mark.parametrize("run_id", ["one", "two"])
def test_a_later_run_tries_what_is_left_and_what_was_cut_off(sampler: ComponentSpec, run_id: str) -> None:
    first = assignments_of(spec(sampler))
    workers = [Worker(n, f"test:{n}") for n in range(5)]
    given = [first.ask(worker, NOW) for worker in workers]
    assert given[0] is not None
    assert given[1] is not None
    first.tell(workers[0], given[0].number, COMPLETE)
    first.tell(workers[1], given[1].number, FAILED)
    first.leave(workers[2])  # its parameters are queued for this run
    first.budget.stop("finished early by alice")
    first.cut(f"the run was finished early by alice, and {CUT_OFF} (60 s)")
    first.close()
    second = assignments_of(spec(sampler, run_id=run_id, seed=5), tuple(trials_of(first)))
    Workers(second, 2, 1).work()
    assert points(second, TrialState.COMPLETE).keys() | {tuple(given[1].params.values())} == POINTS
    assert set(points(second, TrialState.COMPLETE).values()) == {1}


@SAMPLERS
def test_points_that_were_queued_are_not_evaluated_again(sampler: ComponentSpec) -> None:
    assignments = assignments_of(spec(sampler, enqueue=({"x": 2, "y": 1}, {"x": 5, "y": 2})))
    Workers(assignments, 2, 1).work()
    assert points(assignments, TrialState.COMPLETE) == Counter(POINTS)
    assert [t.params for t in trials_of(assignments)[:2]] == [{"x": 2, "y": 1}, {"x": 5, "y": 2}]


@SAMPLERS
def test_a_run_of_a_study_that_has_every_point_ends_at_once(sampler: ComponentSpec) -> None:
    first = assignments_of(spec(sampler))
    Workers(first, 1, 1).work()
    again = assignments_of(spec(sampler, run_id="two"), tuple(trials_of(first)))
    assert again.over
    assert again.budget.reason == EXHAUSTED


def test_brute_force_goes_on_in_a_search_space_that_was_widened() -> None:
    first = assignments_of(spec(BRUTE))
    Workers(first, 1, 1).work()
    wider = {"x": ParamSpec("int", 1, 6), "y": ParamSpec("int", 1, 2)}
    second = assignments_of(spec(BRUTE, run_id="two", search_space=wider), tuple(trials_of(first)))
    new = []
    while (assignment := second.ask(worker := Worker(1, "test:1"), NOW)) is not None:
        new.append(tuple(assignment.params.values()))
        second.tell(worker, assignment.number, COMPLETE)
    assert sorted(new) == [(6, 1), (6, 2)]


@pytest.mark.parametrize("name", ["GridSampler", "BruteForceSampler"])
@pytest.mark.parametrize("seed", range(5))
def test_one_worker_tries_the_points_in_optunas_order(name: str, seed: int) -> None:
    def objective(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kind", ["a", "b", None])
        if kind == "a" and name == "BruteForceSampler":
            return float(trial.suggest_int("n", 0, 6, step=2))
        return trial.suggest_float("f", 0.0, 0.3, step=0.1)

    args = {"search_space": {"kind": ["a", "b", None], "f": [0.0, 0.1]}} if name == "GridSampler" else {}
    ours = optuna.create_study(sampler=build_sampler(ComponentSpec(name, dict(args)), seed))
    ours.optimize(objective, n_trials=12 if args == {} else 6)
    theirs = optuna.create_study(sampler=getattr(optuna.samplers, name)(**args, seed=seed))
    theirs.optimize(objective)
    assert [t.params for t in ours.trials] == [t.params for t in theirs.trials]
    notes = ("grid_id", "search_space")
    assert [[t.system_attrs.get(n) for n in notes] for t in ours.trials] == [
        [t.system_attrs.get(n) for n in notes] for t in theirs.trials
    ]


def test_optunas_own_class_goes_on_with_a_study_of_ours() -> None:
    """If this fails, Optuna's notes on a trial have changed: see grid.py."""
    space = {"x": [1, 2, 3], "y": [1, 2]}
    study = optuna.create_study(sampler=build_sampler(ComponentSpec("GridSampler", {"search_space": space}), 1))
    study.optimize(lambda trial: float(trial.suggest_int("x", 1, 5) + trial.suggest_int("y", 1, 2)), n_trials=4)
    assert not (theirs := optuna.samplers.GridSampler(space, seed=1)).is_exhausted(study)
    assert len(theirs._get_unvisited_grid_ids(study)) == 2


def test_a_grid_whose_values_are_too_many_for_an_attribute_is_noted_by_its_digest() -> None:
    wide = ComponentSpec("GridSampler", {"search_space": {"x": list(range(10_000)), "y": [1]}})
    assignments = assignments_of(spec(wide, search_space={}))
    worker = Worker(1, "test:1")
    for _ in range(3):
        assignment = assignments.ask(worker, NOW)
        assert assignment is not None
        assignments.leave(worker)
    notes = [t.system_attrs for t in trials_of(assignments)]
    assert len({str(note[POINT]) for note in notes}) == 1
    assert len(str(notes[0]["search_space"])) < 100


@pytest.mark.parametrize(
    ("sampler", "text"),
    [
        (BRUTE, "search_space.y: BruteForceSampler tries every value, so a float parameter needs a step"),
        (
            ComponentSpec("GridSampler", {"search_space": {"x": [1]}}),
            "sampler.args.search_space: a grid must list values for every parameter .*, got none for y",
        ),
    ],
)
def test_a_search_space_that_does_not_fit_is_refused_before_any_trial(sampler: ComponentSpec, text: str) -> None:
    space = {"x": ParamSpec("int", 1, 5), "y": ParamSpec("float", 0, 1)}
    with pytest.raises(SpecError, match=text):
        assignments_of(spec(sampler, search_space=space))
