"""Decides how each request of a worker is answered, and which workers wait for a trial. Has no I/O."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol

from optuna_spark.driver.dispatch.assignments import Assignments, Now
from optuna_spark.errors import TuningError
from optuna_spark.stop_and_retry import stopped_by
from optuna_spark.wire.messages import (
    Answer,
    Ask,
    Durable,
    Enqueue,
    Enqueued,
    Next,
    Noted,
    Page,
    Prune,
    Pruning,
    Raised,
    Read,
    Relative,
    RelativeParams,
    Request,
    SetStudyAttr,
    Stop,
    Stopped,
    Suggest,
    Suggested,
    Tell,
    Update,
    Worker,
)
from optuna_spark.wire.sealing import WireError

# After a trial that ran for longer than this, the worker gets its next trial before the last one is durable (_tell).
LONG_S = 0.1
# Errors of Optuna that the worker raises again in the objective, which may catch them. Others become RuntimeError.
PASSED_ON = (ValueError, TypeError, NotImplementedError, OverflowError, RuntimeError)


class Answers(Protocol):
    """Sends answers to the workers."""

    def answer(self, worker: Worker, request: Request, answer: Answer, after: Future[None] | None = None) -> None:
        """Answer a request now, or once `after` is done. If `after` fails, the connection is closed instead."""


class Dispatcher:
    """Handles the requests of workers, one after the other. Not thread-safe, apart from `enter` and `hang_up`.

    It has no threads, clock, sockets or files. The caller passes the time into each call, answers go to `answers`, and
    changes go to the journal of `trials`. So a test can simulate a whole run, as fast as the sampler is.

    Args:
        trials: Which worker runs which trial.
        answers: Sends answers to the workers.
    """

    def __init__(self, trials: Assignments, answers: Answers) -> None:
        self._trials, self._answers = trials, answers
        self._workers: set[Worker] = set()
        self._waiting: deque[tuple[Worker, Ask]] = deque()

    @property
    def failed(self) -> bool:
        return self._trials.budget.error is not None

    @property
    def done(self) -> bool:
        """Whether no trial is running and none will be started."""
        return self.over and not self._trials.running

    @property
    def over(self) -> bool:
        """Whether no trial will be started any more."""
        return self._trials.over

    @property
    def waits_for_database(self) -> bool:
        """Whether all trials have ended, and one of them may still turn out to be refused by the database."""
        return self._trials.waits_for_database

    @property
    def wants_ahead(self) -> bool:
        """Whether a trial should be sampled for the next worker that asks."""
        return self._trials.wants_ahead(len(self._workers))

    @property
    def has_stock(self) -> bool:
        """Whether a trial that was sampled ahead waits for a worker."""
        return self._trials.has_stock

    def enter(self, worker: Worker) -> None:
        """Count a worker that has connected."""
        self._workers.add(worker)

    def hang_up(self, worker: Worker) -> None:
        """Give a worker no trial any more, because its connection has ended. `leave` follows.

        The event loop calls it at once. So requests that are still queued before `leave` get no trial, either.
        """
        self._workers.discard(worker)

    def leave(self, worker: Worker, unbegun: Sequence[int], now: Now) -> None:
        """Fail the trials of a worker that has gone, apart from `unbegun`, which it gave back."""
        self.hang_up(worker)
        self._waiting = deque((other, request) for other, request in self._waiting if other != worker)
        for number in unbegun:
            with contextlib.suppress(WireError):  # the worker never had that trial
                self._trials.release(worker, number)
        self._trials.leave(worker)
        self._serve_waiting(now)

    def settle(self, now: Now) -> None:
        """Take note of what the database has stored, and what it has refused."""
        self._trials.settle()
        self._serve_waiting(now)

    def stop(self, reason: str, now: Now) -> None:
        """Start no further trial."""
        self._trials.budget.stop(reason)
        self._serve_waiting(now)

    def cut(self, error: str, now: Now) -> None:
        """Fail all running trials with this error, once the run was stopped and their time is over."""
        self._trials.cut(error)
        self._serve_waiting(now)

    def fail(self, error: TuningError, now: Now) -> None:
        """End the run as failed."""
        self._trials.budget.fail(error)
        self._serve_waiting(now)

    def close(self, now: Now) -> None:
        """Fail the trials that still run. The run is over, and all workers have gone."""
        self._trials.close()

    def sample_ahead(self, now: Now) -> None:
        """Sample a trial for the next worker that asks."""
        self._trials.sample_ahead()
        self._serve_waiting(now)  # the sampler may have failed, or have nothing more to try

    def handle(self, worker: Worker, request: Request, now: Now) -> None:
        """Do what a worker requests, and answer it now or later.

        Raises:
            WireError: The request makes no sense; the worker's connection is to be closed.
        """
        self._trials.settle()
        try:
            match request:
                case Ask():
                    self._ask(worker, request, now)
                case Tell():
                    self._tell(worker, request, now)
                case Suggest():
                    self._answers.answer(worker, request, self._suggest(worker, request, now))
                case Prune():
                    self._answers.answer(worker, request, self._prune(worker, request, now))
                case Update():
                    self._trials.update(worker, request.number, request.changes, now)
                case Read():
                    for page in self._read(request):
                        self._answers.answer(worker, request, page)
                case Relative():
                    self._answers.answer(worker, request, self._relative(worker, request))
                case Enqueue():
                    self._answers.answer(worker, request, self._enqueue(request))
                case SetStudyAttr():
                    self._answers.answer(worker, request, self._set_study_attr(request))
                case Stop():
                    self._trials.budget.stop(stopped_by(worker.name))
                    self._answers.answer(worker, request, Stopped())
        finally:
            self._serve_waiting(now)

    def _ask(self, worker: Worker, request: Ask, now: Now) -> None:
        """Answer with a trial, or with the end of the run. If there is neither yet, the worker waits."""
        if worker not in self._workers:
            return
        trial = self._trials.ask(worker, now)
        if trial is None and not self.over:
            self._waiting.append((worker, request))
        else:
            self._answers.answer(worker, request, Next(trial, over=trial is None))

    def _serve_waiting(self, now: Now) -> None:
        """Give trials to the workers that wait, and end those that cannot get one any more.

        Some workers are kept waiting although no trial is free: a running trial may kill its worker and be tried again,
        a few times at most. All others end, so that Spark can give their slots to somebody else.
        """
        able = len(self._waiting) if self.over else self._trials.available
        # Each worker is asked for once at most: one for which there is still no trial is appended again.
        for worker, request in [self._waiting.popleft() for _ in range(min(able, len(self._waiting)))]:
            self._ask(worker, request, now)
        while len(self._waiting) > self._trials.most_workers_needed:
            worker, request = self._waiting.pop()
            self._answers.answer(worker, request, Next(over=True))

    def _tell(self, worker: Worker, told: Tell, now: Now) -> None:
        """End a trial, and give the worker its next one.

        One answer says that the trial is durable and what to do next. After a long trial the next trial goes out at
        once, in an answer of its own, so that a GPU does not wait for the database. After a short trial a second
        message would cost more than that wait.
        """
        number = told.number
        self._trials.update(worker, number, told.changes, now)
        is_long = self._trials.seconds(worker, number, now) > LONG_S
        durable = self._trials.tell(worker, number, told.outcome)
        # A worker whose connection ended after this message gets no trial: it would be lost at once.
        trial = self._trials.ask(worker, now) if told.ask and worker in self._workers else None
        following: Next | None = Next(trial, self.over)
        if trial is not None and is_long:
            self._answers.answer(worker, told, Next(trial))
            following = None
        self._answers.answer(worker, told, Durable(number, following), durable)

    def _prune(self, worker: Worker, asked: Prune, now: Now) -> Answer:
        self._trials.update(worker, asked.number, asked.changes, now)
        try:
            prune = self._trials.should_prune(worker, asked.number)
        except TuningError:
            raise
        except Exception as error:  # noqa: BLE001  # as in _suggest
            return _raised(error)
        unfit = self._trials.unfit(worker, asked.number)
        return Pruning(prune) if unfit is None else Raised(ValueError.__name__, unfit)

    def _suggest(self, worker: Worker, asked: Suggest, now: Now) -> Answer:
        unfit = self._trials.unfit(worker, asked.number) or asked.unfit
        if unfit is not None:
            return Raised(ValueError.__name__, unfit)
        try:
            return Suggested(self._trials.suggest(worker, asked.number, asked.name, asked.distribution, now))
        except TuningError:
            raise
        except Exception as error:  # noqa: BLE001  # the objective sees what Optuna raises, as in study.optimize
            return _raised(error)

    def _relative(self, worker: Worker, asked: Relative) -> Answer:
        try:
            return RelativeParams(*self._trials.relative(worker, asked.number))
        except TuningError:
            raise
        except Exception as error:  # noqa: BLE001  # as in _suggest
            return _raised(error)

    def _read(self, asked: Read) -> Iterable[Answer]:
        try:
            return Page.all_of(self._trials.read(asked.part, asked.since))
        except (ValueError, RuntimeError) as error:
            return [_raised(error)]

    def _enqueue(self, asked: Enqueue) -> Answer:
        if asked.unfit is not None:
            return Raised(ValueError.__name__, asked.unfit)
        try:
            return Enqueued(self._trials.enqueue(asked.params, asked.user_attrs))
        except (ValueError, RuntimeError) as error:
            return _raised(error)

    def _set_study_attr(self, asked: SetStudyAttr) -> Answer:
        if asked.unfit is not None:
            return Raised(ValueError.__name__, asked.unfit)
        try:
            self._trials.set_study_attr(asked.key, asked.value, asked.system)
        except ValueError as error:
            return _raised(error)
        return Noted()


def _raised(error: Exception) -> Raised:
    kind = next((k.__name__ for k in PASSED_ON if isinstance(error, k)), RuntimeError.__name__)
    return Raised(kind, str(error) if type(error) in PASSED_ON else f"{type(error).__name__}: {error}")
