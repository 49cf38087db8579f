"""The ledger alone, through thousands of random lives of workers: the budget is exact, the rows are in order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from optuna_spark.driver.dispatcher import Ledger
from optuna_spark.driver.study import StoredStudy
from optuna_spark.spec.tuning import ComponentSpec, StopSpec, TuningSpec
from optuna_spark.stop_and_retry import LOST
from optuna_spark.storage.trial_record import TrialRecord
from optuna_spark.wire.frames import WireError
from optuna_spark.wire.messages import Assignment, Outcome, Worker
from tests.support.coordination import spec_for

COMPLETE = Outcome(TrialState.COMPLETE, (1.0,))
PRUNED = Outcome(TrialState.PRUNED)
FAILED = Outcome(TrialState.FAIL, error="ValueError: no")
RANDOM = ComponentSpec("RandomSampler")


class Notebook:
    """A journal in memory that checks what the database relies on: no new number before the ones below it."""

    def __init__(self, rows: int = 0) -> None:
        self.records: dict[int, TrialRecord] = {}
        self._rows = rows

    def put(self, record: TrialRecord) -> None:
        assert record.number <= max([self._rows - 1, *self.records]) + 1
        before = self.records.get(record.number)
        assert before is None or not before.state.is_finished()
        self.records[record.number] = record

    def put_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def commit(self, record: TrialRecord) -> Future[None]:
        self.put(record)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def count(self, *states: TrialState) -> int:
        return sum(r.state in states for r in self.records.values())


def ledger_for(spec: TuningSpec, journal: Notebook, trials: tuple[Any, ...] = ()) -> Ledger:
    return Ledger(spec, StoredStudy([StudyDirection.MINIMIZE], trials, {}), journal)


class Crowd:
    """Workers that come, work, fail, give back, die, in an order that only the seed knows."""

    def __init__(self, ledger: Ledger, seed: int, total: int) -> None:
        self.ledger, self.total = ledger, total
        self.chance = random.Random(seed)
        self.busy: dict[Worker, Assignment] = {}
        self.idle: list[Worker] = []
        self.born = 0

    def live(self) -> None:
        while not (self.ledger.budget.over and not self.busy):
            self.chance.choice([self.come, self.ask, self.ask, self.tell, self.tell, self.ahead, self.misfortune])()
            budget = self.ledger.budget
            assert budget.spent + budget.started <= self.total
            assert self.ledger.running == len(self.busy)

    def come(self) -> None:
        if len(self.busy) + len(self.idle) < 8:
            self.born += 1
            self.idle.append(Worker(self.born, f"test:{self.born}"))

    def ask(self) -> None:
        if self.idle and (assignment := self.ledger.ask(self.idle[0])) is not None:
            self.busy[self.idle.pop(0)] = assignment

    def tell(self) -> None:
        if self.busy:
            worker = self.chance.choice(list(self.busy))
            outcome = self.chance.choice([COMPLETE, COMPLETE, COMPLETE, PRUNED, FAILED])
            self.ledger.tell(worker, self.busy.pop(worker).number, outcome)
            self.idle.append(worker)

    def ahead(self) -> None:
        if self.ledger.wants_ahead(len(self.busy) + len(self.idle)):
            self.ledger.sample_ahead()

    def misfortune(self) -> None:
        if not self.busy or self.chance.random() < 0.5:
            return
        worker = self.chance.choice(list(self.busy))
        assignment = self.busy.pop(worker)
        if self.chance.random() < 0.3:
            self.ledger.release(worker, assignment.number)
        self.ledger.leave(worker)


@pytest.mark.parametrize("seed", range(25))
def test_the_budget_is_exact_whatever_happens_in_whatever_order(seed: int) -> None:
    stop = StopSpec(max_consecutive_failures=10**6, max_retries=seed % 3, failures_count=seed % 5 == 4)
    spec = spec_for(trials=40, tasks=8, stop=stop, sampler=RANDOM, enqueue=({"x": 1.0}, {"y": 2}, {"y": "bad"}))
    journal = Notebook()
    ledger = ledger_for(spec, journal)
    Crowd(ledger, seed, 40).live()
    ledger.close()
    assert journal.count(TrialState.COMPLETE, TrialState.PRUNED) == ledger.budget.finished
    assert ledger.budget.spent == 40
    assert journal.count(TrialState.RUNNING) == 0
    assert sorted(journal.records) == list(range(len(journal.records)))


@pytest.mark.parametrize("seed", range(10))
def test_a_run_stopped_anywhere_leaves_only_finished_and_queued_trials(seed: int) -> None:
    journal = Notebook()
    ledger = ledger_for(spec_for(trials=10**6, tasks=8, sampler=RANDOM), journal)
    crowd = Crowd(ledger, seed, 10**6)
    for _ in range(50 + 13 * seed):
        crowd.chance.choice([crowd.come, crowd.ask, crowd.tell, crowd.ahead, crowd.misfortune])()
    ledger.budget.stop("enough")
    ledger.close()
    assert all(r.state.is_finished() for r in journal.records.values())


def test_a_resumed_run_counts_its_own_trials_and_nobody_elses() -> None:
    def old(run_id: str, state: TrialState, number: int) -> optuna.trial.FrozenTrial:
        trial = create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None)
        trial.number, trial.user_attrs = number, {"run_id": run_id}
        return trial

    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    trials = [old(run, state, n) for n, (run, state) in enumerate((r, s) for r in ("one", "two") for s in states)]
    ledger = ledger_for(spec_for(trials=5), Notebook(8), tuple(trials))
    assert (ledger.budget.finished, ledger.budget.failed, ledger.budget.left) == (3, 1, 2)


def test_trials_left_running_are_closed_and_only_the_runs_own_are_tried_again() -> None:
    trials = []
    for number, run_id in enumerate(["one", "two"]):
        trial = create_trial(
            state=TrialState.RUNNING,
            params={"x": float(number)},
            distributions={"x": optuna.distributions.FloatDistribution(-10, 10)},
        )
        trial.number, trial.user_attrs = number, {"run_id": run_id}
        trials.append(trial)
    journal = Notebook(2)
    ledger = ledger_for(spec_for(trials=5), journal, tuple(trials))
    assert [journal.records[n].user_attrs["error"] for n in (0, 1)] == [LOST, LOST]
    assert [r.params for r in journal.records.values() if r.state == TrialState.WAITING] == [{}]
    first = ledger.ask(Worker(1, "test:1"))
    assert first is not None
    assert (first.number, first.params["x"], first.user_attrs["retried_from"]) == (2, 0.0, 0)


def test_trials_are_sampled_ahead_for_many_workers_and_not_for_one() -> None:
    ledger = ledger_for(spec_for(trials=100), Notebook())
    assert not ledger.wants_ahead(1)
    depths = {}
    for workers in (2, 16, 32, 160):
        while ledger.wants_ahead(workers):
            ledger.sample_ahead()
        depths[workers] = ledger.budget.started
    assert depths == {2: 1, 16: 1, 32: 2, 160: 10}


def test_nobody_can_speak_for_another_workers_trial() -> None:
    ledger = ledger_for(spec_for(), Notebook())
    assert ledger.ask(Worker(1, "one")) is not None
    for worker, number in ((Worker(2, "two"), 0), (Worker(1, "one"), 1)):
        with pytest.raises(WireError, match="does not have"):
            ledger.tell(worker, number, COMPLETE)


def test_what_tpe_notes_with_a_running_trial_is_nothing_for_the_database() -> None:
    journal, worker = Notebook(), Worker(1, "one")
    ledger = ledger_for(spec_for(sampler=ComponentSpec("TPESampler", {"n_startup_trials": 1}), trials=4), journal)
    noted = []
    while (assignment := ledger.ask(worker)) is not None:
        assert journal.records[assignment.number].system_attrs == {}
        noted.append(ledger._study.frozen(assignment.number).system_attrs)
        ledger.tell(worker, assignment.number, COMPLETE)
    assert [r.system_attrs for r in journal.records.values()] == [{}] * 4
    # If this fails, Optuna notes nothing any more or under another name: see records.py.
    assert any(key.startswith("tpe:relative_params") for attrs in noted for key in attrs)
