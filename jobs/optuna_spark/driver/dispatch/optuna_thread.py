"""The one thread of the driver that calls Optuna: the study in its memory is not thread-safe."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
# Called with the result of a call and None, or with None and the error that the call raised.
Done = Callable[[Any, BaseException | None], None]


@dataclass(frozen=True)
class Later(Generic[T]):
    """Returned by a call whose result may be used once `when` is done. If `when` fails, the call has failed."""

    value: T
    when: Future[None]


class _Call(NamedTuple):
    done: Done
    function: Callable[..., Any]
    args: tuple[object, ...]


# Does nothing: it only wakes the thread, which then looks whether there is something to work ahead.
_NUDGE = _Call(lambda value, error: None, lambda: None, ())


class OptunaThread:
    """Runs calls one after the other, and works ahead while no call waits. Used in the event loop's thread.

    A call reports to a callback rather than to a future: a future costs the event loop one more turn, and in each turn
    the two threads compete for the interpreter lock.

    Args:
        idle: Works ahead. Called in this thread while no call waits, until it returns False.
    """

    def __init__(self, idle: Callable[[], bool]) -> None:
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="optuna", daemon=True)
        self._thread.start()

    def call(self, done: Done, function: Callable[..., Any], *args: object) -> None:
        """Run `function` in this thread, then `done` in the event loop."""
        self._calls.put(_Call(done, function, args))

    def nudge(self) -> None:
        """Wake the thread, which looks again whether to work ahead. Any thread may call this."""
        self._calls.put(_NUDGE)

    def close(self) -> None:
        """End the thread once all calls so far have run."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                result = call.function(*call.args)
            except Exception as error:  # noqa: BLE001  # the caller gets it
                self._settle(call.done, None, error)
                continue
            if isinstance(result, Later):
                self._settle_later(call.done, result)
            else:
                self._settle(call.done, result, None)

    def _next(self) -> _Call | None:
        call: _Call | None = _NUDGE
        while call is _NUDGE:
            try:
                while self._calls.empty() and self._idle():
                    pass
            except Exception:  # the thread must live on: workers wait for it
                log.exception("Sampling ahead failed")
            call = self._calls.get()
        return call

    def _settle_later(self, done: Done, result: Later[Any]) -> None:
        result.when.add_done_callback(lambda when: self._settle(done, result.value, when.exception()))

    def _settle(self, done: Done, value: object, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            self._loop.call_soon_threadsafe(done, value, error)
