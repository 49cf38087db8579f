"""Databases that go away for a moment: calls that are tried again."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from optuna_spark.storage.mysql_errors import (
    is_transient,
)

log = logging.getLogger(__name__)

ATTEMPTS = 8
F = TypeVar("F", bound=Callable[..., Any])


def retried(function: F, when: Callable[[BaseException], bool] = is_transient) -> F:
    """Repeat a database call on some errors, with growing random pauses (about 40 s in all: a server restart).

    Args:
        function: The call.
        when: On which errors; by default on transient ones.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(1, ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except (StorageInternalError, DBAPIError) as error:
                if not when(error):
                    raise
                log.warning("Database call %s failed, attempt %s of %s", function.__name__, attempt, ATTEMPTS)
                pause(attempt)
        return function(*args, **kwargs)

    return cast(F, call)


def pause(attempt: int) -> None:
    """Sleep between two attempts: longer from one to the next, and never all at the same time."""
    time.sleep(random.uniform(0.5, 1.0) * 0.2 * 2**attempt)  # noqa: S311  # jitter, not a secret
