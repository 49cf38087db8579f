"""The one thread of the driver in which everything that calls Optuna happens."""

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
# Gets the result of a call, or the error that it raised.
Done = Callable[[Any, BaseException | None], None]


@dataclass(frozen=True)
class Later(Generic[T]):
    """What a call returns whose result holds only once `when` is done; if that fails, the call has failed."""

    value: T
    when: Future[None]


class _Call(NamedTuple):
    done: Done
    function: Callable[..., Any]
    args: tuple[object, ...]


_NUDGE = _Call(lambda value, error: None, lambda: None, ())


class OptunaThread:
    """Runs calls one after the other, and works ahead while none waits. Made and used in the event loop's thread.

    Callbacks instead of futures: they spare the loop a turn, and with it a fight for the interpreter.

    Args:
        idle: Called in the thread while no call waits, as long as it returns True.
    """

    def __init__(self, idle: Callable[[], bool]) -> None:
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="optuna", daemon=True)
        self._thread.start()

    def call(self, done: Done, function: Callable[..., Any], *args: object) -> None:
        """Run a call in the thread, and then `done` in the loop's."""
        self._calls.put(_Call(done, function, args))

    def nudge(self) -> None:
        """Let it look again whether there is something to work ahead. Safe in any thread."""
        self._calls.put(_NUDGE)

    def close(self) -> None:
        """End the thread once all calls are made."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                result = call.function(*call.args)
            except Exception as error:  # noqa: BLE001  # the caller's
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
            except Exception:
                log.exception("Working ahead failed")
            call = self._calls.get()
        return call

    def _settle_later(self, done: Done, result: Later[Any]) -> None:
        result.when.add_done_callback(lambda when: self._settle(done, result.value, when.exception()))

    def _settle(self, done: Done, value: object, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            self._loop.call_soon_threadsafe(done, value, error)
