"""Between the event loop, which moves messages, and the dispatcher, which works in the one thread that runs Optuna.

So beats and new connections are served while a sampler works. While no message waits, the sampler works ahead.
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

from optuna_spark.driver.assignments import Assignments, Now
from optuna_spark.driver.dispatcher import Dispatcher
from optuna_spark.driver.optuna_thread import Later, OptunaThread
from optuna_spark.errors import TuningError
from optuna_spark.wire.messages import Answer, Request, Update, Worker

log = logging.getLogger(__name__)

# Answers a worker's request; or, when there is an error instead, sends the worker away.
Reply = Callable[[Request, Answer | None, BaseException | None], None]
Done = Callable[[BaseException | None], None]


@dataclass(frozen=True)
class _Sent:
    """An answer on its way from the Optuna thread to the loop's; `after` is what it waits for."""

    worker: Worker
    request: Request
    answer: Answer
    after: Future[None] | None


@dataclass(frozen=True)
class _Called:
    """A call of the dispatcher: the answers that it has sent, and the error that it raised."""

    sent: list[_Sent]
    error: Exception | None = None


class _Outbox:
    """Keeps the answers of one call of the dispatcher together: each turn of the loop that they take costs time."""

    def __init__(self) -> None:
        self._sent: list[_Sent] = []

    def answer(self, worker: Worker, request: Request, answer: Answer, after: Future[None] | None = None) -> None:
        self._sent.append(_Sent(worker, request, answer, after))

    def take(self) -> list[_Sent]:
        sent, self._sent = self._sent, []
        return sent


class RequestHandler:
    """Answers workers. Used in the event loop's thread, except where said otherwise.

    Args:
        trials: Used in the Optuna thread only, its plain counters apart.
        on_change: Called after every change of them.
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
        """Whether the run has failed, or nothing is running, to be committed or to be started."""
        return self._dispatcher.failed or (self._dispatcher.done and not self._jobs)

    def enter(self, worker: Worker, reply: Reply) -> None:
        """A worker has come, whom `reply` answers.

        It gets a WireError when a request makes no sense, a StorageError when the database has failed for good. An
        update gets None once it has been handled.
        """
        self._replies[worker] = reply
        self._dispatcher.enter(worker)

    async def leave(self, worker: Worker, unbegun: Sequence[int]) -> None:
        """A worker's connection ended; `unbegun` are trials it gives back."""
        del self._replies[worker]
        self._dispatcher.hang_up(worker)
        await self._do(self._dispatcher.leave, worker, unbegun)

    def handle(self, worker: Worker, request: Request) -> None:
        """Have a request answered, now or later."""

        def handled(error: BaseException | None) -> None:
            if error is not None or isinstance(request, Update):
                self._reply(worker, request, None, error)

        self._begin(handled, self._dispatcher.handle, worker, request)

    def stop(self, reason: str) -> None:
        """Start no further trial."""
        self._begin(_log_error, self._dispatcher.stop, reason)

    def fail(self, error: TuningError) -> None:
        """End the run as failed."""
        self._begin(_log_error, self._dispatcher.fail, error)

    async def close(self) -> None:
        """Leave no trial running, and end the Optuna thread. No worker is connected any more."""
        await self._do(self._dispatcher.close)
        self._optuna.close()

    async def _do(self, function: Callable[..., None], *args: object) -> None:
        """Call the dispatcher and wait until that is done."""
        answer: asyncio.Future[None] = self._loop.create_future()

        def settle(error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)

        self._begin(settle, function, *args)
        await answer

    def _begin(self, done: Done, function: Callable[..., None], *args: object) -> None:
        """Call the dispatcher, with what time it is then; deliver its answers, then `done`."""

        def end(called: _Called, late_error: BaseException | None) -> None:
            self._jobs -= 1
            for sent in called.sent:
                self._reply(sent.worker, sent.request, None if late_error else sent.answer, late_error)
            done(called.error)
            self._on_change()
            if not self._jobs and self._dispatcher.has_stock and self._dispatcher.wants_ahead:
                self._optuna.nudge()  # see _work_ahead

        self._jobs += 1
        self._optuna.call(end, self._call, function, args)

    def _deliver(self, all_sent: list[_Sent]) -> None:
        for sent in all_sent:
            self._reply(sent.worker, sent.request, sent.answer, None)

    def _reply(self, worker: Worker, request: Request, answer: Answer | None, error: BaseException | None) -> None:
        if (reply := self._replies.get(worker)) is not None:  # it may have gone meanwhile
            reply(request, answer, error)

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function in the loop's thread; safe in any."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            self._loop.call_soon_threadsafe(function, *args)

    # From here on: in the Optuna thread.

    def _call(self, function: Callable[..., None], args: tuple[object, ...]) -> _Called | Later[_Called]:
        """Call the dispatcher. An answer that waits keeps the call open until then, and so costs the loop one turn."""
        try:
            function(*args, now())
        except Exception as error:  # noqa: BLE001  # the caller's
            return _Called(self._outbox.take(), error)
        sent = self._outbox.take()
        late = [one for one in sent if one.after is not None]
        if not late:
            return _Called(sent)
        if len(sent) > len(late):
            self._in_loop(self._deliver, [one for one in sent if one.after is None])
        (waits,) = late  # a request has one such answer
        assert waits.after is not None
        return Later(_Called(late), waits.after)

    def _work_ahead(self) -> bool:
        """Sample for the next worker that asks; whether it was wanted.

        With a trial in stock it waits until no job is left (the end of the last one nudges): a sampler would keep the
        interpreter from those who commit and answer.
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
