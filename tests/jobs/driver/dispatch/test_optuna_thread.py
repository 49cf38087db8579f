"""The thread that calls Optuna: the order of its calls, what it does while none waits, and how they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from optuna_spark.driver.dispatch.optuna_thread import Later, OptunaThread


class Answers:
    """What the calls made of themselves, in the order in which the loop heard of it."""

    def __init__(self, expected: int) -> None:
        self.heard: list[Any] = []
        self._expected, self._all = expected, asyncio.Event()

    def __call__(self, value: Any, error: BaseException | None) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.heard.append(value if error is None else repr(error))
        if len(self.heard) == self._expected:
            self._all.set()

    async def wait(self) -> list[Any]:
        async with asyncio.timeout(10):
            await self._all.wait()
        return self.heard


def in_loop(idle: Callable[[], bool], expected: int, begin: Callable[[OptunaThread, Answers], None]) -> list[Any]:
    async def main() -> list[Any]:
        thread, answers = OptunaThread(idle), Answers(expected)
        begin(thread, answers)
        try:
            return await answers.wait()
        finally:
            thread.close()

    return asyncio.run(main())


def never() -> bool:
    return False


def test_calls_run_in_their_order_and_an_error_ends_only_its_own() -> None:
    def begin(thread: OptunaThread, answers: Answers) -> None:
        thread.call(answers, max, 1, 2)
        thread.call(answers, int, "x")
        thread.call(answers, threading.current_thread)

    first, second, third = in_loop(never, 3, begin)
    assert first == 2
    assert "invalid literal" in second
    assert third.name == "optuna"


def test_an_answer_that_waits_holds_up_no_call_and_shares_the_fate_of_what_it_waits_for() -> None:
    durable: Future[None] = Future()
    lost: Future[None] = Future()

    def begin(thread: OptunaThread, answers: Answers) -> None:
        thread.call(answers, lambda: Later("stored", durable))
        thread.call(answers, lambda: Later("never heard of", lost))
        thread.call(answers, lambda: "meanwhile")
        thread.call(answers, lost.set_exception, OSError("full"))
        thread.call(answers, durable.set_result, None)

    heard = in_loop(never, 5, begin)
    assert heard[0] == "meanwhile"
    assert sorted(map(str, heard[1:])) == ["None", "None", "OSError('full')", "stored"]


def test_it_works_ahead_while_no_call_waits_and_outlives_an_error_there() -> None:
    failed, went_on = threading.Event(), threading.Event()
    todo = [True, True]

    def ahead() -> bool:
        if todo:
            return todo.pop()
        if not failed.is_set():
            failed.set()
            raise OSError("ahead")
        went_on.set()
        return False

    async def main() -> None:
        thread = OptunaThread(ahead)
        assert await asyncio.to_thread(failed.wait, 10)
        thread.call(Answers(1), max, 1, 2)
        assert await asyncio.to_thread(went_on.wait, 10)
        thread.close()

    asyncio.run(main())
    assert not todo


def test_a_nudge_lets_it_work_ahead_although_no_call_came() -> None:
    looked = threading.Semaphore(0)

    def idle() -> bool:
        looked.release()
        return False

    def begin(thread: OptunaThread, answers: Answers) -> None:
        assert looked.acquire(timeout=10)
        thread.nudge()
        assert looked.acquire(timeout=10)
        thread.call(answers, lambda: "done")

    assert in_loop(idle, 1, begin) == ["done"]
