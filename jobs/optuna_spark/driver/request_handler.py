"""What a worker's messages mean: each becomes a call on the ledger, in the one thread that runs Optuna.

The event loop's thread only moves messages, so that beats and new connections are served while a sampler
works. While no message waits, the sampler works ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from optuna_spark.driver.dispatcher import Ledger
from optuna_spark.driver.optuna_thread import Done, Later, OptunaThread
from optuna_spark.errors import TuningError
from optuna_spark.wire.frames import WireError
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

T = TypeVar("T")
LONG_S = 0.1  # a trial that took longer is a long one; see _tell
# Sends a worker its answer; or, when there is an error instead, sends the worker away.
Reply = Callable[[Answer | None, BaseException | None], None]
# Raised in the driver, meant for the objective: raised there again under the same name.
PASSED_ON = (ValueError, TypeError, NotImplementedError, OverflowError, RuntimeError)


class Desk:
    """Answers workers. Used in the event loop's thread, except where said otherwise.

    Args:
        ledger: Called in the Optuna thread only, its plain counters apart.
        on_change: Called after every change of the ledger.
    """

    def __init__(self, ledger: Ledger, on_change: Callable[[], None]) -> None:
        self._ledger, self._on_change = ledger, on_change
        self._loop = asyncio.get_running_loop()
        self._jobs = 0
        self._parked: deque[tuple[Worker, Reply]] = deque()
        self._workers: set[Worker] = set()
        self._optuna = OptunaThread(self._work_ahead)

    @property
    def done(self) -> bool:
        """Whether the run has failed, or nothing is running, to be committed or to be started."""
        budget = self._ledger.budget
        return budget.error is not None or (budget.over and not (self._ledger.running or self._jobs))

    def enter(self, worker: Worker) -> None:
        self._workers.add(worker)

    async def leave(self, worker: Worker, unbegun: Sequence[int]) -> None:
        """A worker's connection ended; `unbegun` are trials it gives back."""
        self._workers.discard(worker)
        self._parked = deque((other, reply) for other, reply in self._parked if other != worker)
        await self.do(self._leave, worker, unbegun)

    def answer(self, worker: Worker, request: Request, reply: Reply) -> None:
        """Have a request answered, now or later; an update's `reply` gets no answer.

        `reply` gets a WireError when the request makes no sense, a StorageError when the database has failed for good.
        """
        match request:
            case Ask():
                self._ask(worker, reply)
            case Tell():
                self._begin(reply, self._tell, reply, worker, request)
            case Suggest():
                self._begin(reply, self._suggest, worker, request)
            case Prune():
                self._begin(reply, self._should_prune, worker, request)
            case Update():
                self._begin(reply, self._ledger.update, worker, request.number, request.changes)
            case Stop():
                self._begin(reply, self._stop, worker)

    async def do(self, function: Callable[..., T], *args: object) -> T:
        """Run a call on the ledger in the Optuna thread."""
        answer: asyncio.Future[T] = self._loop.create_future()

        def settle(value: T, error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)

        self._begin(settle, function, *args)
        return await answer

    def close(self) -> None:
        """End the Optuna thread. No worker is connected any more."""
        self._optuna.close()

    def _begin(self, done: Done, function: Callable[..., Any], *args: object) -> None:
        def end(value: Any, error: BaseException | None) -> None:
            self._jobs -= 1
            done(value, error)
            self._after_change()
            if not self._jobs and self._ledger.has_stock and self._ledger.wants_ahead(len(self._workers)):
                self._optuna.nudge()  # see _work_ahead

        self._jobs += 1
        self._optuna.call(end, function, *args)

    def _ask(self, worker: Worker, reply: Reply) -> None:
        """Answer with a trial, with the end of the run, or when one of the two has come."""

        def hand_over(found: Next | None, error: BaseException | None) -> None:
            if error is not None or found is None:
                reply(None, error)
            elif found.trial is None and not found.over:
                if worker in self._workers:  # it may have gone meanwhile
                    self._parked.append((worker, reply))
            else:
                reply(found, None)

        self._begin(hand_over, self._ask_now, worker)

    def _after_change(self) -> None:
        wake = len(self._parked) if self._ledger.budget.over else self._ledger.available
        for worker, reply in [self._parked.popleft() for _ in range(min(wake, len(self._parked)))]:
            self._ask(worker, reply)
        self._release_idle()
        self._on_change()

    def _release_idle(self) -> None:
        """Send home the workers for whom nothing can be left, whatever becomes of the trials that run.

        A running trial that kills each worker it is given needs so many more; the others free their slots.
        """
        while len(self._parked) > self._ledger.most_workers_needed:
            _, reply = self._parked.pop()
            reply(Next(over=True), None)

    # From here on: in the Optuna thread.

    def _ask_now(self, worker: Worker) -> Next:
        return Next(self._ledger.ask(worker), self._ledger.budget.over)

    def _work_ahead(self) -> bool:
        """Sample for the next worker that asks; whether it was wanted.

        With a trial in stock there is time until the last job has ended, which nudges: a sampler would keep the
        interpreter from those who commit and answer.
        """
        if not self._ledger.wants_ahead(len(self._workers)) or (self._ledger.has_stock and self._jobs):
            return False
        self._ledger.sample_ahead()
        if self._ledger.budget.over:  # the sampler has failed, or has nothing more to try
            self._loop.call_soon_threadsafe(self._after_change)
        return True

    def _tell(self, reply: Reply, worker: Worker, told: Tell) -> Later[Answer]:
        """The answer says that the trial is durable, and what to do next.

        After a long trial the next one goes out at once, in a message of its own, so that a GPU need not wait for the
        database; after a short one a second message would cost more than that.
        """
        number = told.number
        self._ledger.update(worker, number, told.changes)
        is_long = self._ledger.seconds(worker, number) > LONG_S
        durable = self._ledger.tell(worker, number, told.outcome)
        # One that died with its last words gets no further trial, which would be lost at once.
        assignment = self._ledger.ask(worker) if told.ask and worker in self._workers else None
        if assignment is not None and is_long:
            self._loop.call_soon_threadsafe(reply, Next(assignment), None)
            return Later(Durable(number), durable)
        return Later(Durable(number, Next(assignment, self._ledger.budget.over)), durable)

    def _suggest(self, worker: Worker, asked: Suggest) -> Answer:
        try:
            return Suggested(self._ledger.suggest(worker, asked.number, asked.name, asked.distribution))
        except TuningError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a sampler raises is the objective's to know
            kind = next((k.__name__ for k in PASSED_ON if isinstance(error, k)), RuntimeError.__name__)
            text = str(error) if type(error) in PASSED_ON else f"{type(error).__name__}: {error}"
            return Raised(kind, text)

    def _should_prune(self, worker: Worker, asked: Prune) -> Answer:
        self._ledger.update(worker, asked.number, asked.changes)
        return Pruning(self._ledger.should_prune(worker, asked.number))

    def _stop(self, worker: Worker) -> Answer:
        self._ledger.budget.stop(f"the objective in worker {worker.name} called study.stop()")
        return Stopped()

    def _leave(self, worker: Worker, unbegun: Sequence[int]) -> None:
        for number in unbegun:
            with contextlib.suppress(WireError):  # it never had that one
                self._ledger.release(worker, number)
        self._ledger.leave(worker)
