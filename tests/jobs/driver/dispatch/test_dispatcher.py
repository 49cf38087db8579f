"""The dispatcher alone, with a clock and a database that only the test moves: whole runs, the same twice."""

from __future__ import annotations

import datetime
import random
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_spark.driver.dispatch.assignments import Assignments, Now
from optuna_spark.driver.dispatch.dispatcher import LONG_S, Dispatcher
from optuna_spark.driver.dispatch.study import StoredStudy
from optuna_spark.errors import TuningError
from optuna_spark.spec.sections import ComponentSpec, StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_record import Refusal, TrialRecord
from optuna_spark.trial_callback import NOBODY
from optuna_spark.wire.messages import (
    Answer,
    Ask,
    Assignment,
    Changes,
    Durable,
    Next,
    Outcome,
    Prune,
    Pruning,
    Request,
    Stop,
    Stopped,
    Tell,
    Update,
    Worker,
)
from optuna_spark.wire.sealing import WireError
from tests.support.coordination import spec_for
from tests.support.notebook import Notebook

ONE, TWO, THREE = (Worker(number, f"test:{number}") for number in (1, 2, 3))
RANDOM = ComponentSpec("RandomSampler")
COMPLETE = Outcome(TrialState.COMPLETE, (1.0,))
BEGIN = datetime.datetime(2026, 1, 1)


def at(seconds: float) -> Now:
    return Now(BEGIN + datetime.timedelta(seconds=seconds), seconds)


class SlowDatabase(Notebook):
    """Makes trials durable only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Future[None]] = []

    def commit(self, record: TrialRecord) -> Future[None]:
        self.put(record)
        self.waiting.append(Future())
        return self.waiting[-1]

    def store(self) -> None:
        """Make all trials durable that wait for it."""
        for done in self.waiting:
            if not done.done():
                done.set_result(None)


@dataclass
class Mail:
    """What the dispatcher has answered."""

    sent: list[tuple[Worker, Request, Answer, Future[None] | None]] = field(default_factory=list)

    def answer(self, worker: Worker, request: Request, answer: Answer, after: Future[None] | None = None) -> None:
        self.sent.append((worker, request, answer, after))

    def take(self) -> list[tuple[Worker, Answer]]:
        taken, self.sent = [(worker, answer) for worker, _, answer, _ in self.sent], []
        return taken


@dataclass
class Bench:
    """A dispatcher with some workers."""

    dispatcher: Dispatcher
    trials: Assignments
    mail: Mail
    journal: SlowDatabase

    @classmethod
    def of(cls, spec: TuningSpec, *workers: Worker) -> Bench:
        journal, mail = SlowDatabase(), Mail()
        trials = Assignments(spec, StoredStudy([StudyDirection.MINIMIZE], (), {}), journal, NOBODY)
        dispatcher = Dispatcher(trials, mail)
        for worker in workers:
            dispatcher.enter(worker)
        return cls(dispatcher, trials, mail, journal)

    def ask(self, worker: Worker, seconds: float = 0.0) -> Assignment:
        self.dispatcher.handle(worker, Ask(), at(seconds))
        ((_, answer),) = self.mail.take()
        assert isinstance(answer, Next)
        assert answer.trial is not None
        return answer.trial


def test_a_trial_starts_at_the_time_that_is_given() -> None:
    bench = Bench.of(spec_for(), ONE)
    trial = bench.ask(ONE, 12.5)
    assert trial.start == BEGIN + datetime.timedelta(seconds=12.5)


def test_who_finds_no_trial_waits_and_gets_the_one_of_a_worker_that_goes() -> None:
    bench = Bench.of(spec_for(trials=1), ONE, TWO)
    lost = bench.ask(ONE)
    bench.dispatcher.handle(TWO, Ask(), at(1))
    assert bench.mail.take() == []
    bench.dispatcher.leave(ONE, (), at(2))
    ((worker, answer),) = bench.mail.take()
    assert isinstance(answer, Next)
    assert answer.trial is not None
    assert (worker, answer.trial.params, answer.trial.start) == (TWO, lost.params, at(2).local)


def test_those_for_whom_nothing_can_be_left_go_home_and_the_others_once_the_run_is_over() -> None:
    bench = Bench.of(spec_for(trials=1, stop=StopSpec(max_retries=0)), ONE, TWO, THREE)
    trial = bench.ask(ONE)
    for worker in (TWO, THREE):
        bench.dispatcher.handle(worker, Ask(), at(0))
    assert bench.mail.take() == [(THREE, Next(over=True))]
    bench.dispatcher.handle(ONE, Tell(trial.number, COMPLETE), at(1))
    assert bench.mail.take() == [(ONE, Durable(0, Next()))]
    assert not bench.dispatcher.done  # if the database refuses this trial, TWO runs another one
    bench.journal.store()
    bench.dispatcher.settle(at(2))
    assert bench.mail.take() == [(TWO, Next(over=True))]
    assert bench.dispatcher.done


def test_a_trial_that_the_database_refuses_is_replaced_by_another_one() -> None:
    bench = Bench.of(spec_for(trials=1), ONE, TWO)
    trial = bench.ask(ONE)
    bench.dispatcher.handle(TWO, Ask(), at(0))
    bench.dispatcher.handle(ONE, Tell(trial.number, COMPLETE), at(1))
    bench.mail.take()
    bench.journal.refusals.append(Refusal(trial.number, True, "two names are one", 1))
    bench.journal.store()
    bench.dispatcher.settle(at(2))
    ((worker, answer),) = bench.mail.take()
    assert isinstance(answer, Next)
    assert answer.trial is not None
    assert (worker, answer.trial.number) == (TWO, 1)
    assert (bench.trials.budget.finished, bench.trials.budget.failed) == (0, 1)


def test_the_answer_to_a_result_waits_for_the_database_and_after_a_long_trial_the_next_trial_does_not() -> None:
    bench = Bench.of(spec_for(trials=3), ONE)
    first = bench.ask(ONE)
    bench.dispatcher.handle(ONE, Tell(first.number, COMPLETE), at(LONG_S / 2))
    ((_, _, short, after),) = bench.mail.sent
    assert isinstance(short, Durable)
    assert short.next is not None
    assert short.next.trial is not None
    assert after is bench.journal.waiting[-1]
    bench.mail.take()
    bench.dispatcher.handle(ONE, Tell(short.next.trial.number, COMPLETE), at(LONG_S * 2))
    (_, _, following, at_once), (_, _, durable, after) = bench.mail.sent
    assert isinstance(following, Next)
    assert (following.trial is not None, at_once) == (True, None)
    assert (durable, after) == (Durable(1), bench.journal.waiting[-1])


def test_updates_have_no_answer_pruning_and_stopping_have_one() -> None:
    bench = Bench.of(spec_for(), ONE)
    number = bench.ask(ONE).number
    bench.dispatcher.handle(ONE, Update(number, Changes(((0, 1.0),))), at(0))
    assert bench.mail.take() == []
    bench.dispatcher.handle(ONE, Prune(number, Changes(((1, 1.0),))), at(0))
    bench.dispatcher.handle(ONE, Stop(), at(0))
    assert bench.mail.take() == [(ONE, Pruning(False)), (ONE, Stopped())]
    assert bench.dispatcher.over


def test_what_a_worker_reports_is_written_now_and_then_by_the_clock_that_is_given() -> None:
    bench = Bench.of(spec_for(), ONE)
    number = bench.ask(ONE).number
    for seconds in range(4):
        bench.dispatcher.handle(ONE, Update(number, Changes(((seconds, 1.0),))), at(seconds / 5))
    assert list(bench.journal.records[number].intermediate_values) == [0, 1, 2, 3]
    bench.dispatcher.handle(ONE, Update(number, Changes(((4, 1.0),))), at(0.7))
    assert list(bench.journal.records[number].intermediate_values) == [0, 1, 2, 3]


def test_one_that_has_gone_gets_no_trial_whatever_it_asked_before() -> None:
    bench = Bench.of(spec_for(trials=2), ONE)
    trial = bench.ask(ONE)
    bench.dispatcher.hang_up(ONE)
    bench.dispatcher.handle(ONE, Tell(trial.number, COMPLETE), at(9))
    bench.dispatcher.handle(ONE, Ask(), at(9))
    assert bench.mail.take() == [(ONE, Durable(0, Next()))]
    assert bench.trials.running == 0


def test_an_error_that_fails_the_run_sends_the_waiting_home() -> None:
    bench = Bench.of(spec_for(trials=1), ONE, TWO)
    bench.ask(ONE)
    bench.dispatcher.handle(TWO, Ask(), at(0))
    bench.dispatcher.fail(TuningError("the disk is full"), at(1))
    assert bench.mail.take() == [(TWO, Next(over=True))]
    assert bench.dispatcher.failed


def lives(seed: int) -> list[tuple[Worker, Answer]]:
    """A run of workers that come, work, ask twice, lie and die, in an order that only the seed knows."""
    chance, heard = random.Random(seed), []
    bench = Bench.of(spec_for(trials=60, tasks=8, sampler=RANDOM, stop=StopSpec(max_consecutive_failures=10**6)))
    has: dict[Worker, int | None] = {}
    seconds = born = 0
    while not bench.dispatcher.done:
        seconds += 1
        worker = chance.choice([*has, None]) if len(has) < 6 else chance.choice([*has])
        if worker is None:
            born += 1
            worker = Worker(born, f"test:{born}")
            bench.dispatcher.enter(worker)
            has[worker] = None
            bench.dispatcher.handle(worker, Ask(), at(seconds))
        elif chance.random() < 0.2:
            del has[worker]
            bench.dispatcher.leave(worker, (), at(seconds))
        elif (number := has[worker]) is not None:
            has[worker] = None
            bench.dispatcher.handle(worker, Tell(number, COMPLETE, Changes()), at(seconds))
        else:
            with pytest.raises(WireError):
                bench.dispatcher.handle(worker, Tell(10**6, COMPLETE), at(seconds))
        bench.journal.store()
        bench.dispatcher.settle(at(seconds))
        for other, answer in bench.mail.take():
            heard.append((other, answer))
            following = answer.next if isinstance(answer, Durable) else answer
            if isinstance(following, Next) and following.trial is not None:
                has[other] = following.trial.number
            elif isinstance(following, Next) and not following.over:
                bench.dispatcher.handle(other, Ask(), at(seconds))
        heard += bench.mail.take()
    bench.dispatcher.close(at(seconds))
    assert bench.journal.count(TrialState.COMPLETE) == 60
    assert bench.journal.count(TrialState.RUNNING) == 0
    return heard


@pytest.mark.parametrize("seed", range(10))
def test_a_run_is_the_same_twice_when_the_same_happens_and_its_budget_is_exact(seed: int) -> None:
    assert lives(seed) == lives(seed)
