"""What a worker's messages mean: each becomes a call on the ledger, in the one thread that runs Optuna.

The event loop's thread only moves messages, so that beats and new connections are served while a sampler
works. While no message waits, the sampler works ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from optuna.distributions import json_to_distribution

from optuna_spark.ledger import Ledger
from optuna_spark.messages import Assignment, Update, Worker, outcome_from_message
from optuna_spark.wire import Message, WireError

log = logging.getLogger(__name__)

T = TypeVar("T")
# Raised in the driver, meant for the objective: raised there again under the same name.
PASSED_ON = (ValueError, TypeError, NotImplementedError, RuntimeError)


class Desk:
    """Answers workers. Used in the event loop's thread, except where said otherwise.

    Args:
        ledger: Called in the Optuna thread only, its plain counters apart.
        on_change: Called after every change of the ledger.
    """

    def __init__(self, ledger: Ledger, on_change: Callable[[], None]) -> None:
        self._ledger, self._on_change = ledger, on_change
        self._optuna = ThreadPoolExecutor(1, "optuna")
        self._jobs = self._committing = 0
        self._ahead: asyncio.Task[None] | None = None
        self._parked: deque[tuple[Worker, asyncio.Future[None]]] = deque()
        self._workers: set[Worker] = set()

    @property
    def done(self) -> bool:
        """Whether the run has failed, or nothing is running, to be committed or to be started."""
        budget = self._ledger.budget
        at_rest = not (self._ledger.running or self._jobs or self._committing)
        return budget.error is not None or (budget.over and at_rest)

    def enter(self, worker: Worker) -> None:
        self._workers.add(worker)

    async def leave(self, worker: Worker, unbegun: list[int]) -> None:
        """A worker's connection ended; `unbegun` are trials it gives back."""
        self._workers.discard(worker)
        for waiting in [f for w, f in self._parked if w == worker]:
            waiting.cancel()
        await self.do(self._leave, worker, unbegun)

    async def answer(self, worker: Worker, message: Message) -> Message:
        """The reply to a request.

        Raises:
            WireError: The message makes no sense.
            StorageError: The database has failed for good.
        """
        operation = message.get("op")
        if operation == "ask":
            return await self._ask(worker)
        if operation == "tell":
            return await self._tell(worker, message)
        if operation == "suggest":
            return await self.do(self._suggest, worker, message)
        if operation == "prune":
            return await self.do(self._should_prune, worker, message)
        if operation == "update":
            return await self.do(self._update, worker, message)
        if operation == "stop":
            return await self.do(self._stop, worker)
        raise WireError(f"unknown request {operation!r}")

    async def do(self, function: Callable[..., T], *args: object) -> T:
        """Run a call on the ledger in the Optuna thread."""
        self._jobs += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._optuna, function, *args)
        finally:
            self._jobs -= 1
            self._after_change()

    async def close(self) -> None:
        """Let nobody wait any longer, and end the Optuna thread."""
        while self._parked:
            self._parked.popleft()[1].cancel()
        if self._ahead is not None:
            await self._ahead
        self._optuna.shutdown()

    async def _ask(self, worker: Worker) -> Message:
        while worker in self._workers:  # it may have gone while it was parked
            assignment, over = await self.do(self._ask_now, worker)
            if assignment is not None or over:
                return _next(assignment, over)
            waiting = asyncio.get_running_loop().create_future()
            self._parked.append((worker, waiting))
            await waiting
        return _next(None, over=True)

    async def _tell(self, worker: Worker, message: Message) -> Message:
        durable, assignment, over = await self.do(self._tell_now, worker, message)
        self._committing += 1
        try:
            await asyncio.wrap_future(durable)
        finally:
            self._committing -= 1
            self._on_change()
        return _next(assignment, over)

    def _after_change(self) -> None:
        wake = len(self._parked) if self._ledger.budget.over else self._ledger.available
        while wake > 0 and self._parked:
            _, waiting = self._parked.popleft()
            if not waiting.done():
                waiting.set_result(None)
                wake -= 1
        if self._ahead is None and self._jobs == 0 and self._ledger.wants_ahead(len(self._workers)):
            self._ahead = asyncio.get_running_loop().create_task(self._work_ahead())
        self._on_change()

    async def _work_ahead(self) -> None:
        try:
            while self._jobs == 0 and self._ledger.wants_ahead(len(self._workers)):
                await asyncio.get_running_loop().run_in_executor(self._optuna, self._ledger.sample_ahead)
        finally:
            self._ahead = None

    # From here on: in the Optuna thread.

    def _ask_now(self, worker: Worker) -> tuple[Assignment | None, bool]:
        return self._ledger.ask(worker), self._ledger.budget.over

    def _tell_now(self, worker: Worker, message: Message) -> tuple[Future[None], Assignment | None, bool]:
        number, outcome = _number(message), outcome_from_message(message)
        self._ledger.update(worker, number, _changes(message))
        durable = self._ledger.tell(worker, number, outcome)
        # One that died with its last words gets no further trial, which would be lost at once.
        assignment = self._ledger.ask(worker) if message.get("ask") and worker in self._workers else None
        return durable, assignment, self._ledger.budget.over

    def _suggest(self, worker: Worker, message: Message) -> Message:
        try:
            distribution = json_to_distribution(message["distribution"])
            return {"value": self._ledger.suggest(worker, _number(message), message["name"], distribution)}
        except PASSED_ON as error:
            kind = next(k.__name__ for k in PASSED_ON if isinstance(error, k))
            return {"error": kind, "text": str(error)}

    def _should_prune(self, worker: Worker, message: Message) -> Message:
        self._ledger.update(worker, _number(message), _changes(message))
        return {"prune": self._ledger.should_prune(worker, _number(message))}

    def _update(self, worker: Worker, message: Message) -> Message:
        self._ledger.update(worker, _number(message), _changes(message))
        return {}

    def _stop(self, worker: Worker) -> Message:
        self._ledger.budget.stop(f"the objective in worker {worker.name} called study.stop()")
        return {}

    def _leave(self, worker: Worker, unbegun: list[int]) -> None:
        for number in unbegun:
            with contextlib.suppress(WireError):  # it never had that one
                self._ledger.release(worker, number)
        self._ledger.leave(worker)


def _next(assignment: Assignment | None, over: bool) -> Message:
    return {"end": over} if assignment is None else {"trial": assignment.to_message()}


def _number(message: Message) -> int:
    number = message.get("number")
    if not isinstance(number, int):
        raise WireError(f"number must be a trial's number, got {number!r}")
    return number


def _changes(message: Message) -> Update:
    return Update.from_message(message.get("changes") or {})
