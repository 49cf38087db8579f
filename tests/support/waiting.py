"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str = "it", seconds: float = 180, every_s: float = 0.05) -> T:
    """What the condition returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(every_s)
    return found


class Running(Protocol):
    """A thread, or a process of multiprocessing."""

    name: str

    def join(self, timeout: float | None = None) -> None: ...

    def is_alive(self) -> bool: ...


def join(*running: Running, seconds: float = 180) -> None:
    """Wait until each of them has ended."""
    for one in running:
        one.join(seconds)
        assert not one.is_alive(), f"waited {seconds} s for {one.name} to end"
