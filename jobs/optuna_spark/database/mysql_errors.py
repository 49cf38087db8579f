"""MySQL's and MariaDB's error numbers: which errors pass, which are final, and one sentence about each for a person.

PyMySQL has names for most numbers. The others are in MySQL's list,
https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html, or in MariaDB's,
https://mariadb.com/kb/en/mariadb-error-codes/
"""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy
from pymysql.constants import CR, ER
from pymysql.err import DataError
from sqlalchemy.exc import DBAPIError

from optuna_spark.database.url import describe_url, parse_url
from optuna_spark.errors import StorageError, TlsError

NO_PASSWORD_LOGIN = 1698
WEAK_PASSWORD = 1819
_TABLE_CHANGES = 1684  # MySQL: another session is changing the table
_KILLED = 1927  # MariaDB: the connection was killed
_CLOSED = 0  # PyMySQL: this connection has been closed

LOCKED = {ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK}
LOST = {CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST}
NO_SERVER = {CR.CR_CONNECTION_ERROR, CR.CR_CONN_HOST_ERROR}
ABSENT = NO_SERVER | LOST | {ER.SERVER_SHUTDOWN}
NOT_READY = ABSENT | {CR.CR_UNKNOWN_HOST, ER.CON_COUNT_ERROR}
# For one call that is tried again. NO_SERVER is not among them: PatientConnect has waited for the server already.
TRANSIENT = LOCKED | LOST | {ER.SERVER_SHUTDOWN, CR.CR_SERVER_LOST_EXTENDED, _KILLED}
# For a transaction that is kept, and tried again for minutes. After a failover a server may be read-only at first.
COMES_BACK = TRANSIENT | NO_SERVER | {_CLOSED, ER.CON_COUNT_ERROR, ER.OPTION_PREVENTS_STATEMENT, ER.QUERY_INTERRUPTED}
OVERTAKEN = {ER.TABLE_EXISTS_ERROR, ER.DUP_ENTRY, _TABLE_CHANGES}
NO_RIGHT = {ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR}
NOT_ALLOWED = NO_RIGHT | {
    ER.COLUMNACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.CANT_CREATE_USER_WITH_GRANT
}  # fmt: skip
# Trying again cannot help: somebody has to change the account, the database or the settings.
# The server refuses a value or a name, and would refuse it again. PyMySQL's DataError covers further numbers.
_INVALID_STRING = 1300
DATA = {
    ER.DUP_ENTRY, ER.DATA_TOO_LONG, ER.TRUNCATED_WRONG_VALUE_FOR_FIELD, ER.WARN_DATA_OUT_OF_RANGE,
    ER.CANT_AGGREGATE_2COLLATIONS, _INVALID_STRING,
}  # fmt: skip
REFUSED = NO_RIGHT | {
    ER.ACCESS_DENIED_ERROR, NO_PASSWORD_LOGIN, ER.HOST_NOT_PRIVILEGED, ER.BAD_DB_ERROR,
    CR.CR_SSL_CONNECTION_ERROR, CR.CR_AUTH_PLUGIN_CANNOT_LOAD,
}  # fmt: skip


def driver_error(error: BaseException) -> BaseException:
    """The driver's error inside an error of SQLAlchemy or Optuna; the error itself if there is none."""
    found = _wrapped(error)
    return found.orig if found is not None and found.orig is not None else error


def _wrapped(error: BaseException | None) -> DBAPIError | None:
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    return error


def code_of(error: BaseException) -> Any:
    """MySQL's number of a driver's error; None for an error without arguments."""
    return error.args[0] if error.args else None


def is_transient(error: BaseException) -> bool:
    """Whether trying the call again can help: a deadlock, a lock wait, or a connection that broke."""
    found = _wrapped(error)
    return found is not None and (found.connection_invalidated or _is_one_of(found, TRANSIENT))


def is_overtaken(error: BaseException) -> bool:
    """Whether making tables failed because another process makes the same ones."""
    found = _wrapped(error)
    if found is None:
        return False
    # SQLite has no numbers for these.
    exists = "already exists" in str(found.orig) or "UNIQUE constraint failed" in str(found.orig)
    return exists or _is_one_of(found, OVERTAKEN | LOCKED)


def comes_back(error: BaseException) -> bool:
    """Whether the same transaction may succeed later: the server restarts, or a lock is held."""
    return isinstance(driver_error(error), ConnectionError | TimeoutError) or _is_one_of(error, COMES_BACK)


def is_about_data(error: BaseException) -> bool:
    """Whether a transaction failed because of the data in it, so that another trial's may succeed.

    A failed transaction of StudyWriter has been rolled back. Some data do not even get to the server: a text that UTF-8
    cannot hold, an attribute that is not JSON.
    """
    original = driver_error(error)
    if isinstance(original, ValueError | TypeError | OverflowError | RecursionError):
        return True
    unique = "UNIQUE constraint failed" in str(original)  # SQLite has no numbers for these
    return unique or isinstance(original, DataError | sqlite3.DataError) or code_of(original) in DATA


def explain_data(error: BaseException) -> str:
    """One sentence about an error for which `is_about_data` holds: what the database refuses, and what to do."""
    original = driver_error(error)
    text = str(original.args[1]) if len(original.args) == 2 else f"{type(original).__name__}: {original}"
    if code_of(original) == ER.DUP_ENTRY:
        return (
            f"the database takes two names of this trial for one ({text}): names of parameters and attributes must"
            " differ there in more than case, accents and spaces at the end; a new database tells all names apart"
        )
    return f"the database cannot hold what this trial has set ({text}): shorten or rename it"


def is_refused(error: BaseException) -> bool:
    """Whether the database refuses for good, for example because of a wrong password or a missing right."""
    cause: BaseException | None = error
    while cause is not None:
        if code_of(driver_error(cause)) in REFUSED:
            return True
        cause = cause.__cause__
    return False


def _is_one_of(error: BaseException, codes: set[int]) -> bool:
    """Whether the error has one of these numbers, or is SQLite's lock wait, which has no number."""
    original = driver_error(error)
    return code_of(original) in codes or "database is locked" in str(original)


def explain(error: BaseException, url: str | sqlalchemy.URL) -> StorageError:
    """A StorageError of one sentence: what failed, where, and what to do."""
    original = driver_error(error)
    code = code_of(original)
    parsed = parse_url(url)
    account, place = parsed.username, f"{parsed.host}:{parsed.port or 3306}"
    if code == ER.ACCESS_DENIED_ERROR:
        return StorageError(f"MySQL at {place} refuses the password of {account!r}: correct the connection")
    if code in NO_RIGHT | {ER.BAD_DB_ERROR}:
        return StorageError(
            f"account {account!r} may not use database {parsed.database!r} at {place}:"
            " create it and grant the account its rights (init/mysql does)"
        )
    if code == CR.CR_SSL_CONNECTION_ERROR:
        return TlsError(f"{original.args[1]}: correct ssl_mode and ssl_ca, or give the server TLS")
    if code in NO_SERVER | LOST | {CR.CR_UNKNOWN_HOST}:
        return StorageError(f"no MySQL server answers at {place}: start it, or correct host and port")
    return StorageError(f"the storage {describe_url(parsed)} cannot be used: {original}")
