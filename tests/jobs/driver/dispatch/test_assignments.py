"""Assignments alone, through thousands of random lives of workers: the budget is exact, the rows are in order."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from optuna_spark.driver.dispatch.assignments import Assignments, Now
from optuna_spark.driver.dispatch.budget import Budget
from optuna_spark.driver.dispatch.study import StoredStudy
from optuna_spark.spec.sections import ComponentSpec, StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import EXHAUSTED, LOST
from optuna_spark.storage.trial_marks import ERROR, RETRY, RUN, begun
from optuna_spark.trial_callback import NOBODY
from optuna_spark.wire.messages import Assignment, Outcome, Worker
from optuna_spark.wire.sealing import WireError
from tests.support.coordination import spec_for
from tests.support.notebook import Notebook

COMPLETE = Outcome(TrialState.COMPLETE, (1.0,))
PRUNED = Outcome(TrialState.PRUNED)
FAILED = Outcome(TrialState.FAIL, error="ValueError: no")
RANDOM = ComponentSpec("RandomSampler")
Write = Callable[[optuna.trial.FrozenTrial, str], None]
NOW = Now(datetime.datetime(2026, 1, 1), 0.0)


def trials_for(spec: TuningSpec, journal: Notebook, stored: tuple[Any, ...] = ()) -> Assignments:
    return Assignments(spec, StoredStudy([StudyDirection.MINIMIZE], stored, {}), journal, NOBODY)


class Crowd:
    """Workers that come, work, fail, give back, die, in an order that only the seed knows."""

    def __init__(self, trials: Assignments, seed: int, total: int) -> None:
        self.trials, self.total = trials, total
        self.chance = random.Random(seed)
        self.busy: dict[Worker, Assignment] = {}
        self.idle: list[Worker] = []
        self.born = 0

    def live(self) -> None:
        while not (self.trials.budget.over and not self.busy):
            self.chance.choice([self.come, self.ask, self.ask, self.tell, self.tell, self.ahead, self.misfortune])()
            budget = self.trials.budget
            assert budget.spent + budget.started <= self.total
            assert self.trials.running == len(self.busy)

    def come(self) -> None:
        if len(self.busy) + len(self.idle) < 8:
            self.born += 1
            self.idle.append(Worker(self.born, f"test:{self.born}"))

    def ask(self) -> None:
        if self.idle and (assignment := self.trials.ask(self.idle[0], NOW)) is not None:
            self.busy[self.idle.pop(0)] = assignment

    def tell(self) -> None:
        if self.busy:
            worker = self.chance.choice(list(self.busy))
            outcome = self.chance.choice([COMPLETE, COMPLETE, COMPLETE, PRUNED, FAILED])
            self.trials.tell(worker, self.busy.pop(worker).number, outcome)
            self.idle.append(worker)

    def ahead(self) -> None:
        if self.trials.wants_ahead(len(self.busy) + len(self.idle)):
            self.trials.sample_ahead()

    def misfortune(self) -> None:
        if not self.busy or self.chance.random() < 0.5:
            return
        worker = self.chance.choice(list(self.busy))
        assignment = self.busy.pop(worker)
        if self.chance.random() < 0.3:
            self.trials.release(worker, assignment.number)
        self.trials.leave(worker)


@pytest.mark.parametrize("seed", range(25))
def test_the_budget_is_exact_whatever_happens_in_whatever_order(seed: int) -> None:
    stop = StopSpec(max_consecutive_failures=10**6, max_retries=seed % 3, failures_count=seed % 5 == 4)
    spec = spec_for(trials=40, tasks=8, stop=stop, sampler=RANDOM, enqueue=({"x": 1.0}, {"y": 2}, {"y": "bad"}))
    journal = Notebook()
    assignments = trials_for(spec, journal)
    Crowd(assignments, seed, 40).live()
    assignments.close()
    assert journal.count(TrialState.COMPLETE, TrialState.PRUNED) == assignments.budget.finished
    assert assignments.budget.spent == 40
    assert journal.count(TrialState.RUNNING) == 0
    assert sorted(journal.records) == list(range(len(journal.records)))


@pytest.mark.parametrize("seed", range(10))
def test_a_run_stopped_anywhere_leaves_only_finished_and_queued_trials(seed: int) -> None:
    journal = Notebook()
    assignments = trials_for(spec_for(trials=10**6, tasks=8, sampler=RANDOM), journal)
    crowd = Crowd(assignments, seed, 10**6)
    for _ in range(50 + 13 * seed):
        crowd.chance.choice([crowd.come, crowd.ask, crowd.tell, crowd.ahead, crowd.misfortune])()
    assignments.budget.stop("enough")
    assignments.close()
    assert all(r.state.is_finished() for r in journal.records.values())


@pytest.mark.parametrize(
    ("reason", "finished", "bounds"),
    [
        ("the objective in worker w called study.stop()", 0, True),
        ("the target value 1 was reached", 1, True),
        ("the target value 1 was reached", 2, False),  # by the last trial
        (EXHAUSTED, 0, False),
    ],
)
def test_running_trials_are_bounded_when_something_was_left_to_try(reason: str, finished: int, bounds: bool) -> None:
    budget = Budget(spec_for(trials=2), finished=finished, failed=0)
    budget.stop(reason)
    assert budget.early_end == (reason if bounds else None)


def written_now(trial: optuna.trial.FrozenTrial, run_id: str) -> None:
    """As this version writes it, by an objective that has an attribute of the same name."""
    trial.system_attrs, trial.user_attrs = begun(run_id), {"run_id": "one", "retries": "many"}


def written_by_0_1_0(trial: optuna.trial.FrozenTrial, run_id: str) -> None:
    trial.user_attrs = {"run_id": run_id, "worker": "old:1"}


@pytest.mark.parametrize("write", [written_now, written_by_0_1_0])
def test_a_resumed_run_counts_its_own_trials_and_nobody_elses(write: Write) -> None:
    def old(run_id: str, state: TrialState, number: int) -> optuna.trial.FrozenTrial:
        trial = create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None)
        write(trial, run_id)
        trial.number = number
        return trial

    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    trials = [old(run, state, n) for n, (run, state) in enumerate((r, s) for r in ("one", "two") for s in states)]
    assignments = trials_for(spec_for(trials=5), Notebook(8), tuple(trials))
    assert (assignments.budget.finished, assignments.budget.failed, assignments.budget.left) == (3, 1, 2)


@pytest.mark.parametrize("write", [written_now, written_by_0_1_0])
def test_trials_left_running_are_closed_and_only_the_runs_own_are_tried_again(write: Write) -> None:
    trials = []
    for number, run_id in enumerate(["one", "two"]):
        trial = create_trial(
            state=TrialState.RUNNING,
            params={"x": float(number)},
            distributions={"x": optuna.distributions.FloatDistribution(-10, 10)},
        )
        write(trial, run_id)
        trial.number = number
        trials.append(trial)
    journal = Notebook(2)
    assignments = trials_for(spec_for(trials=5), journal, tuple(trials))
    assert [journal.records[n].system_attrs[ERROR] for n in (0, 1)] == [LOST, LOST]
    assert [journal.records[n].system_attrs[RUN]["run_id"] for n in (0, 1)] == ["one", "two"]
    assert [r.params for r in journal.records.values() if r.state == TrialState.WAITING] == [{}]
    first = assignments.ask(Worker(1, "test:1"), NOW)
    assert first is not None
    assert (first.number, first.params["x"], first.user_attrs) == (2, 0.0, {})
    assert journal.records[2].system_attrs[RETRY] == {"retried_from": 0, "retries": 1}


def test_trials_are_sampled_ahead_for_many_workers_and_not_for_one() -> None:
    assignments = trials_for(spec_for(trials=100), Notebook())
    assert not assignments.wants_ahead(1)
    depths = {}
    for workers in (2, 16, 32, 160):
        while assignments.wants_ahead(workers):
            assignments.sample_ahead()
        depths[workers] = assignments.budget.started
    assert depths == {2: 1, 16: 1, 32: 2, 160: 10}


def test_nobody_can_speak_for_another_workers_trial() -> None:
    assignments = trials_for(spec_for(), Notebook())
    assert assignments.ask(Worker(1, "one"), NOW) is not None
    for worker, number in ((Worker(2, "two"), 0), (Worker(1, "one"), 1)):
        with pytest.raises(WireError, match="does not have"):
            assignments.tell(worker, number, COMPLETE)


def test_what_tpe_notes_with_a_running_trial_is_nothing_for_the_database() -> None:
    journal, worker = Notebook(), Worker(1, "one")
    assignments = trials_for(
        spec_for(sampler=ComponentSpec("TPESampler", {"n_startup_trials": 1, "group": True}), trials=4), journal
    )
    noted = []
    while (assignment := assignments.ask(worker, NOW)) is not None:
        assert journal.records[assignment.number].system_attrs.keys() == {RUN}
        noted.append(assignments._study.frozen(assignment.number).system_attrs)
        assignments.tell(worker, assignment.number, COMPLETE)
    assert [r.system_attrs.keys() for r in journal.records.values()] == [{RUN}] * 4
    # If this fails, Optuna notes nothing any more or under another name: see trial_record.py.
    assert any(key.startswith("tpe:relative_params") for attrs in noted for key in attrs)
