"""Database calls that are tried again, because the database may be away for a moment."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from optuna_spark.database.mysql_errors import (
    is_transient,
)

log = logging.getLogger(__name__)

ATTEMPTS = 8  # with the pauses of `pause`: about 40 s in all, which lets a server restart
F = TypeVar("F", bound=Callable[..., Any])


def retried(function: F, when: Callable[[BaseException], bool] = is_transient) -> F:
    """Make a function try its database call again after some errors, with pauses that grow.

    Args:
        function: Makes the call. It must be safe to repeat.
        when: Whether an error is one to try again after; by default whether it is transient.
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
    """Sleep after an attempt (from 1): each pause is twice the last, and random, so that workers spread."""
    time.sleep(random.uniform(0.5, 1.0) * 0.2 * 2**attempt)  # noqa: S311  # jitter, not a secret
