"""What every contender runs: trials that sleep as long as their number says, so that all do the same work.

Travels to the Spark workers with the contenders; standard library only.
"""

from __future__ import annotations

import random
import time
from typing import Any

SHORTEST_S, LONGEST_S = 1.0, 3.0
# The smallest case published for the examples this project grew out of: 100 trials of 3.76 s.
PUBLISHED_S = 3.76


def duration_s(number: int) -> float:
    """How long trial `number` sleeps: the same for every contender, run and machine."""
    return random.Random(f"trial {number}").uniform(SHORTEST_S, LONGEST_S)  # noqa: S311 - no secret


def ideal_s(trials: int, slots: int) -> float:
    """The time it takes when every slot is busy from the first moment to the last."""
    return sum(map(duration_s, range(trials))) / slots


def quadratic(trial: Any) -> float:
    """Two parameters, no time."""
    x = trial.suggest_float("x", -10.0, 10.0)
    y = trial.suggest_float("y", -10.0, 10.0)
    return float((x - 2.0) ** 2 + (y + 3.0) ** 2)


def sleep_trial(trial: Any) -> float:
    """Two parameters, 1 to 3 s."""
    value = quadratic(trial)
    time.sleep(duration_s(trial.number))
    return value


def published_trial(trial: Any) -> float:
    """Two parameters, 3.76 s."""
    value = quadratic(trial)
    time.sleep(PUBLISHED_S)
    return value
