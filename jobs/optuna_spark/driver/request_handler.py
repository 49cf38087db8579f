"""Passes requests from the event loop to the dispatcher, and its answers back.

The event loop moves messages, the dispatcher works in the Optuna thread. So the loop can serve beats and new
connections while a sampler works. While no request waits, the Optuna thread samples ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from optuna_spark.driver.dispatch.assignments import Assignments, Now
from optuna_spark.driver.dispatch.dispatcher import Dispatcher
from optuna_spark.driver.dispatch.optuna_thread import Later, OptunaThread
from optuna_spark.errors import TuningError
from optuna_spark.wire.messages import Answer, Request, Update, Worker

log = logging.getLogger(__name__)

# How soon it is looked whether the database has stored a run's last trials.
SETTLE_S = 0.01

# Answers a request, or closes the worker's connection when there is an error.
Reply = Callable[[Request, Answer | None, BaseException | None], None]
Done = Callable[[BaseException | None], None]


@dataclass(frozen=True)
class _Sent:
    """An answer on its way from the Optuna thread to the event loop. It may go out once `after` is done."""

    worker: Worker
    request: Request
    answer: Answer
    after: Future[None] | None


@dataclass(frozen=True)
class _Called:
    """The result of a call of the dispatcher: the answers that it sent, and the error that it raised, if it did."""

    sent: list[_Sent]
    error: Exception | None = None


class _Outbox:
    """Collects the answers of one call of the dispatcher, so that they cost the event loop one turn together."""

    def __init__(self) -> None:
        self._sent: list[_Sent] = []

    def answer(self, worker: Worker, request: Request, answer: Answer, after: Future[None] | None = None) -> None:
        self._sent.append(_Sent(worker, request, answer, after))

    def take(self) -> list[_Sent]:
        sent, self._sent = self._sent, []
        return sent


class RequestHandler:
    """Answers workers. Used in the event loop's thread, except where a comment says otherwise.

    Args:
        trials: Which worker runs which trial. Used in the Optuna thread; other threads may only read its counters.
        on_change: Called in the event loop after every change of the trials.
    """

    def __init__(self, trials: Assignments, on_change: Callable[[], None]) -> None:
        self._outbox = _Outbox()
        self._dispatcher, self._on_change = Dispatcher(trials, self._outbox), on_change
        self._loop = asyncio.get_running_loop()
        self._replies: dict[Worker, Reply] = {}
        self._jobs = 0  # calls of the dispatcher, each open until its answers are sent
        self._optuna = OptunaThread(self._work_ahead)

    @property
    def done(self) -> bool:
        """Whether the run has failed, or no trial is running, waits for its commit, or will be started."""
        return self._dispatcher.failed or (self._dispatcher.done and not self._jobs)

    def enter(self, worker: Worker, reply: Reply) -> None:
        """Add a worker that has connected.

        `reply` gets each answer. It gets a WireError instead when a request makes no sense, and a StorageError when the
        database has failed for good. An update has no answer: `reply` gets None once it has been handled.
        """
        self._replies[worker] = reply
        self._dispatcher.enter(worker)

    async def leave(self, worker: Worker, unbegun: Sequence[int]) -> None:
        """Remove a worker whose connection has ended. `unbegun` are the trials that it gave back."""
        del self._replies[worker]
        self._dispatcher.hang_up(worker)
        await self._do(self._dispatcher.leave, worker, unbegun)

    def handle(self, worker: Worker, request: Request) -> None:
        """Pass a request on. It is answered through the worker's `reply`, now or later."""

        def handled(error: BaseException | None) -> None:
            if error is not None or isinstance(request, Update):
                self._reply(worker, request, None, error)

        self._begin(handled, self._dispatcher.handle, worker, request)

    def stop(self, reason: str) -> None:
        """Start no further trial."""
        self._begin(_log_error, self._dispatcher.stop, reason)

    async def cut(self, error: str) -> None:
        """Fail all running trials, and wait until that is counted."""
        await self._do(self._dispatcher.cut, error)

    def fail(self, error: TuningError) -> None:
        """End the run as failed."""
        self._begin(_log_error, self._dispatcher.fail, error)

    async def close(self) -> None:
        """Fail the trials that still run, then end the Optuna thread. Call it once no worker is connected."""
        await self._do(self._dispatcher.close)
        self._optuna.close()

    async def _do(self, function: Callable[..., None], *args: object) -> None:
        """Call the dispatcher, and wait until its answers are delivered."""
        answer: asyncio.Future[None] = self._loop.create_future()

        def settle(error: BaseException | None) -> None:
            if answer.cancelled():  # nobody waits any more, and a cancelled future takes no result
                return
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)

        self._begin(settle, function, *args)
        await answer

    def _begin(self, done: Done, function: Callable[..., None], *args: object) -> None:
        """Call the dispatcher in the Optuna thread; deliver its answers, then call `done`."""

        def end(called: _Called, late_error: BaseException | None) -> None:
            self._jobs -= 1
            for sent in called.sent:
                self._reply(sent.worker, sent.request, None if late_error else sent.answer, late_error)
            done(called.error)
            if not self._jobs and self._dispatcher.waits_for_database:
                # Nothing else may happen any more that lets the dispatcher look.
                self._loop.call_later(SETTLE_S, self._begin, _log_error, self._dispatcher.settle)
            self._on_change()
            if not self._jobs and self._dispatcher.has_stock and self._dispatcher.wants_ahead:
                self._optuna.nudge()  # _work_ahead waits for this moment

        self._jobs += 1
        self._optuna.call(end, self._call, function, args)

    def _deliver(self, all_sent: list[_Sent]) -> None:
        for sent in all_sent:
            self._reply(sent.worker, sent.request, sent.answer, None)

    def _reply(self, worker: Worker, request: Request, answer: Answer | None, error: BaseException | None) -> None:
        if (reply := self._replies.get(worker)) is not None:  # the worker may have gone meanwhile
            reply(request, answer, error)

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function in the event loop. Any thread may call this."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            self._loop.call_soon_threadsafe(function, *args)

    # The Optuna thread calls `_call` and `_work_ahead`.

    def _call(self, function: Callable[..., None], args: tuple[object, ...]) -> _Called | Later[_Called]:
        """Call the dispatcher with the present time.

        If one of the answers waits for its commit, the whole call ends with that commit. A second call for the answer
        would cost the event loop one more turn.
        """
        try:
            function(*args, now())
        except Exception as error:  # noqa: BLE001  # the caller gets it
            return _Called(self._outbox.take(), error)
        sent = self._outbox.take()
        late = [one for one in sent if one.after is not None]
        if not late:
            return _Called(sent)
        if len(sent) > len(late):
            self._in_loop(self._deliver, [one for one in sent if one.after is None])
        (waits,) = late  # only Durable waits, and a request has one of it
        assert waits.after is not None
        return Later(_Called(late), waits.after)

    def _work_ahead(self) -> bool:
        """Sample a trial for the next worker that asks. Returns whether one was wanted.

        If a trial is in stock already, sampling can wait until no call is open: it would hold the interpreter lock that
        the committer and the event loop need. The end of the last open call wakes the thread again (`_begin`).
        """
        if not self._dispatcher.wants_ahead or (self._dispatcher.has_stock and self._jobs):
            return False
        self._dispatcher.sample_ahead(now())
        sent = self._outbox.take()
        if sent or self._dispatcher.over:  # the sampler has failed, or has nothing more to try
            self._in_loop(self._end_of_sampling, sent)
        return True

    def _end_of_sampling(self, sent: list[_Sent]) -> None:
        self._deliver(sent)
        self._on_change()


def now() -> Now:
    return Now(datetime.datetime.now(), time.monotonic())


def _log_error(error: BaseException | None) -> None:
    if error is not None:
        log.error("The run could not be ended", exc_info=error)
