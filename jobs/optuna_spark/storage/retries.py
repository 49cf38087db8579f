"""Databases that go away for a moment: calls that are tried again, connections that wait for their server."""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import sqlalchemy
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from optuna_spark.storage.mysql_connection import opener

log = logging.getLogger(__name__)

ATTEMPTS = 8
F = TypeVar("F", bound=Callable[..., Any])

# MySQL and MariaDB: shutdown in progress, lock wait timeout, deadlock, connection killed, and a lost connection
# in three wordings. No server at all (2003) is not among them: PatientConnect has waited for it already.
_TRANSIENT_CODES = {1053, 1205, 1213, 1927, 2006, 2013, 2055}
_LOCK_CODES = {1205, 1213}
_ABSENT_CODES = {1053, 2002, 2003, 2006, 2013}
# MySQL and MariaDB: the table exists, the row exists, another session changes the table.
_OVERTAKEN_CODES = {1050, 1062, 1684}


class PatientConnect:
    """Opens connections for an engine; once the server has answered, waits for it when it restarts."""

    def __init__(self, url: sqlalchemy.URL, options: dict[str, Any]) -> None:
        self._connect = opener(url, options)
        self._answered = False

    def __call__(self) -> Any:
        connection = self._patiently() if self._answered else self._connect()
        self._answered = True
        return connection

    def _patiently(self) -> Any:
        for attempt in range(1, ATTEMPTS):
            try:
                return self._connect()
            except Exception as error:
                if code_of(error) not in _ABSENT_CODES:
                    raise
                log.warning("The database does not answer, attempt %s of %s", attempt, ATTEMPTS)
                _pause(attempt)
        return self._connect()


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help: a deadlock, a lock wait or a connection that broke."""
    cause = _database_error(error)
    return cause is not None and (cause.connection_invalidated or _has_code(cause, _TRANSIENT_CODES))


def is_rolled_back(error: BaseException) -> bool:
    """Whether a call failed by a deadlock or a lock wait: transient, and certain to have stored nothing."""
    cause = _database_error(error)
    return cause is not None and _has_code(cause, _LOCK_CODES)


def is_overtaken(error: BaseException) -> bool:
    """Whether making tables failed because another process makes the same ones: it stored nothing."""
    cause = _database_error(error)
    if cause is None:
        return False
    exists = "already exists" in str(cause.orig) or "UNIQUE constraint failed" in str(cause.orig)
    return exists or _has_code(cause, _OVERTAKEN_CODES | _LOCK_CODES)


def _database_error(error: BaseException) -> DBAPIError | None:
    """The driver's error, which Optuna may have wrapped."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error if isinstance(error, DBAPIError) else None


def _has_code(error: DBAPIError, codes: set[int]) -> bool:
    """Whether it is one of MySQL's codes, or SQLite's lock wait, which has none."""
    return code_of(error.orig) in codes or "database is locked" in str(error.orig)


def code_of(error: BaseException | None) -> Any:
    """MySQL's number for an error of its driver; None for one without arguments."""
    return error.args[0] if error is not None and error.args else None


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
                _pause(attempt)
        return function(*args, **kwargs)

    return cast(F, call)


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.5, 1.0) * 0.2 * 2**attempt)  # noqa: S311  # jitter, not a secret
