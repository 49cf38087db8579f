"""The trials that every contender runs. Their length depends only on their number, so that all do the same work.

Each trial writes its start and end to a file, because MySQL stores Optuna's times in whole seconds. This module is
shipped to the Spark workers, so it imports the standard library only.
"""

from __future__ import annotations

import heapq
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TIMES_VARIABLE = "BENCH_TIMES"

SHORTEST_S, LONGEST_S = 1.0, 3.0
# The smallest case published for the examples that this project began with: 100 trials of 3.76 s.
PUBLISHED_S = 3.76


def duration_s(number: int) -> float:
    """How many seconds trial `number` sleeps. The same for every contender, run and machine."""
    return random.Random(f"trial {number}").uniform(SHORTEST_S, LONGEST_S)  # noqa: S311 - no secret


def ideal_s(trials: int, slots: int) -> float:
    """The time of all trials, in seconds, if every slot is busy from the first moment to the last."""
    return sum(map(duration_s, range(trials))) / slots


def costless_s(trials: int, slots: int) -> float:
    """The time of an engine that costs nothing, in seconds: a free slot begins the next trial at once.

    More than `ideal_s`, because at the end some slots are free while others still run their last trial.
    """
    free = [0.0] * slots
    for number in range(trials):
        heapq.heapreplace(free, free[0] + duration_s(number))
    return max(free)


@contextmanager
def timed() -> Iterator[None]:
    """Add a line to the file of the run's times, if it has one: start and end of the block, in seconds since 1970."""
    start = time.time()
    yield
    if file := os.environ.get(TIMES_VARIABLE):
        # O_APPEND and a single write: lines of trials that end at the same time do not mix.
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{start} {time.time()}\n".encode())
        finally:
            os.close(handle)


def bowl(trial: Any) -> float:
    """Two parameters, one minimum."""
    x = trial.suggest_float("x", -10.0, 10.0)
    y = trial.suggest_float("y", -10.0, 10.0)
    return float((x - 2.0) ** 2 + (y + 3.0) ** 2)


def quadratic(trial: Any) -> float:
    """Two parameters, no time."""
    with timed():
        return bowl(trial)


def sleep_trial(trial: Any) -> float:
    """Two parameters, 1 to 3 s."""
    with timed():
        value = bowl(trial)
        time.sleep(duration_s(trial.number))
    return value


def published_trial(trial: Any) -> float:
    """Two parameters, 3.76 s."""
    with timed():
        value = bowl(trial)
        time.sleep(PUBLISHED_S)
    return value
