"""What each request of a worker means, and who waits for a trial: without threads, clock, sockets or files."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from optuna_spark.driver.assignments import Assignments, Now
from optuna_spark.errors import TuningError
from optuna_spark.wire.messages import (
    Answer,
    Ask,
    Durable,
    Next,
    Prune,
    Pruning,
    Raised,
    Request,
    Stop,
    Stopped,
    Suggest,
    Suggested,
    Tell,
    Update,
    Worker,
)
from optuna_spark.wire.sealing import WireError

LONG_S = 0.1  # a trial that took longer is a long one; see _tell
# Raised in the driver, meant for the objective: raised there again under the same name.
PASSED_ON = (ValueError, TypeError, NotImplementedError, OverflowError, RuntimeError)


class Answers(Protocol):
    """The way to the workers."""

    def answer(self, worker: Worker, request: Request, answer: Answer, after: Future[None] | None = None) -> None:
        """Answer a request: now, or once `after` is done; when that fails, the worker is sent away instead."""


class Dispatcher:
    """Handles the requests of workers, one after the other. Not thread-safe, apart from `enter` and `hang_up`.

    Time comes in with each call; answers go to `answers`, what is to be written to the journal of `trials`. So a whole
    run can be simulated, as fast as the sampler is.

    Args:
        trials: Who runs which trial.
        answers: The way to the workers.
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
        """Whether nothing is running or to be started."""
        return self.over and not self._trials.running

    @property
    def over(self) -> bool:
        """Whether no trial will be started any more."""
        return self._trials.budget.over

    @property
    def wants_ahead(self) -> bool:
        """Whether a trial should be sampled for the next worker that asks."""
        return self._trials.wants_ahead(len(self._workers))

    @property
    def has_stock(self) -> bool:
        """Whether a trial that was sampled ahead waits for a worker."""
        return self._trials.has_stock

    def enter(self, worker: Worker) -> None:
        """A worker has come."""
        self._workers.add(worker)

    def hang_up(self, worker: Worker) -> None:
        """A worker has gone: from now on it gets no trial. `leave` follows."""
        self._workers.discard(worker)

    def leave(self, worker: Worker, unbegun: Sequence[int], now: Now) -> None:
        """What a worker had when it went has failed; `unbegun` are trials that it gives back."""
        self.hang_up(worker)
        self._waiting = deque((other, request) for other, request in self._waiting if other != worker)
        for number in unbegun:
            with contextlib.suppress(WireError):  # it never had that one
                self._trials.release(worker, number)
        self._trials.leave(worker)
        self._serve_waiting(now)

    def stop(self, reason: str, now: Now) -> None:
        """Start no further trial."""
        self._trials.budget.stop(reason)
        self._serve_waiting(now)

    def fail(self, error: TuningError, now: Now) -> None:
        """End the run as failed."""
        self._trials.budget.fail(error)
        self._serve_waiting(now)

    def close(self, now: Now) -> None:
        """Leave no trial running: the run is over, and all workers have gone."""
        self._trials.close()

    def sample_ahead(self, now: Now) -> None:
        """Sample a trial for the next worker that asks."""
        self._trials.sample_ahead()
        self._serve_waiting(now)  # the sampler may have failed, or have nothing more to try

    def handle(self, worker: Worker, request: Request, now: Now) -> None:
        """Do what a worker requests, and answer it, now or later.

        Raises:
            WireError: The request makes no sense.
        """
        try:
            match request:
                case Ask():
                    self._ask(worker, request, now)
                case Tell():
                    self._tell(worker, request, now)
                case Suggest():
                    self._answers.answer(worker, request, self._suggest(worker, request, now))
                case Prune():
                    self._trials.update(worker, request.number, request.changes, now)
                    prune = self._trials.should_prune(worker, request.number)
                    self._answers.answer(worker, request, Pruning(prune))
                case Update():
                    self._trials.update(worker, request.number, request.changes, now)
                case Stop():
                    self._trials.budget.stop(f"the objective in worker {worker.name} called study.stop()")
                    self._answers.answer(worker, request, Stopped())
        finally:
            self._serve_waiting(now)

    def _ask(self, worker: Worker, request: Ask, now: Now) -> None:
        """Answer with a trial or with the end of the run; where neither has come, the worker waits."""
        if worker not in self._workers:
            return
        trial = self._trials.ask(worker, now)
        if trial is None and not self.over:
            self._waiting.append((worker, request))
        else:
            self._answers.answer(worker, request, Next(trial, over=trial is None))

    def _serve_waiting(self, now: Now) -> None:
        """Give trials to those who wait, and send home those for whom nothing can be left.

        A running trial that kills each worker it is given needs so many more; the others free their slots.
        """
        able = len(self._waiting) if self.over else self._trials.available
        for worker, request in [self._waiting.popleft() for _ in range(min(able, len(self._waiting)))]:
            self._ask(worker, request, now)
        while len(self._waiting) > self._trials.most_workers_needed:
            worker, request = self._waiting.pop()
            self._answers.answer(worker, request, Next(over=True))

    def _tell(self, worker: Worker, told: Tell, now: Now) -> None:
        """The answer says that the trial is durable, and what to do next.

        After a long trial the next one goes out at once, in a message of its own, so that a GPU need not wait for the
        database; after a short one a second message would cost more than that.
        """
        number = told.number
        self._trials.update(worker, number, told.changes, now)
        is_long = self._trials.seconds(worker, number, now) > LONG_S
        durable = self._trials.tell(worker, number, told.outcome)
        # One that died with its last words gets no further trial, which would be lost at once.
        trial = self._trials.ask(worker, now) if told.ask and worker in self._workers else None
        following: Next | None = Next(trial, self.over)
        if trial is not None and is_long:
            self._answers.answer(worker, told, Next(trial))
            following = None
        self._answers.answer(worker, told, Durable(number, following), durable)

    def _suggest(self, worker: Worker, asked: Suggest, now: Now) -> Answer:
        try:
            return Suggested(self._trials.suggest(worker, asked.number, asked.name, asked.distribution, now))
        except TuningError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a sampler raises is the objective's to know
            kind = next((k.__name__ for k in PASSED_ON if isinstance(error, k)), RuntimeError.__name__)
            return Raised(kind, str(error) if type(error) in PASSED_ON else f"{type(error).__name__}: {error}")
