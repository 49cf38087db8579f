"""What MySQL's and MariaDB's error numbers mean: what passes, what is refused for good, and one sentence for a person.

The numbers that PyMySQL has no name for are MySQL's: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
and MariaDB's: https://mariadb.com/kb/en/mariadb-error-codes/
"""

from __future__ import annotations

from typing import Any

import sqlalchemy
from pymysql.constants import CR, ER
from sqlalchemy.exc import DBAPIError

from optuna_spark.errors import StorageError, TlsError
from optuna_spark.storage.url import describe_url, parse_url

NO_PASSWORD_LOGIN = 1698
WEAK_PASSWORD = 1819
_TABLE_CHANGES = 1684  # MySQL: another session changes the table
_KILLED = 1927  # MariaDB: the connection was killed
_CLOSED = 0  # PyMySQL: this connection was closed before

LOCKED = {ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK}
LOST = {CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST}
NO_SERVER = {CR.CR_CONNECTION_ERROR, CR.CR_CONN_HOST_ERROR}
ABSENT = NO_SERVER | LOST | {ER.SERVER_SHUTDOWN}
NOT_READY = ABSENT | {CR.CR_UNKNOWN_HOST, ER.CON_COUNT_ERROR}
# No server at all is not among them: PatientConnect has waited for it already.
TRANSIENT = LOCKED | LOST | {ER.SERVER_SHUTDOWN, CR.CR_SERVER_LOST_EXTENDED, _KILLED}
# Of a transaction that is kept and tried again for a while; read-only is a server after a failover.
COMES_BACK = TRANSIENT | NO_SERVER | {_CLOSED, ER.CON_COUNT_ERROR, ER.OPTION_PREVENTS_STATEMENT, ER.QUERY_INTERRUPTED}
OVERTAKEN = {ER.TABLE_EXISTS_ERROR, ER.DUP_ENTRY, _TABLE_CHANGES}
NO_RIGHT = {ER.DBACCESS_DENIED_ERROR, ER.TABLEACCESS_DENIED_ERROR}
NOT_ALLOWED = NO_RIGHT | {
    ER.COLUMNACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.CANT_CREATE_USER_WITH_GRANT
}  # fmt: skip
# Trying again changes nothing.
REFUSED = NO_RIGHT | {
    ER.ACCESS_DENIED_ERROR, NO_PASSWORD_LOGIN, ER.HOST_NOT_PRIVILEGED, ER.BAD_DB_ERROR,
    CR.CR_SSL_CONNECTION_ERROR, CR.CR_AUTH_PLUGIN_CANNOT_LOAD,
}  # fmt: skip


def driver_error(error: BaseException) -> BaseException:
    """The error of the database's driver that an error of SQLAlchemy's or Optuna's wraps; else the error itself."""
    found = _wrapped(error)
    return found.orig if found is not None and found.orig is not None else error


def _wrapped(error: BaseException | None) -> DBAPIError | None:
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    return error


def code_of(error: BaseException) -> Any:
    """MySQL's number for an error of its driver; None for one without arguments."""
    return error.args[0] if error.args else None


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help: a deadlock, a lock wait or a connection that broke."""
    found = _wrapped(error)
    return found is not None and (found.connection_invalidated or _is_one_of(found, TRANSIENT))


def is_rolled_back(error: BaseException) -> bool:
    """Whether a call failed by a deadlock or a lock wait: transient, and certain to have stored nothing."""
    found = _wrapped(error)
    return found is not None and _is_one_of(found, LOCKED)


def is_overtaken(error: BaseException) -> bool:
    """Whether making tables failed because another process makes the same ones: it stored nothing."""
    found = _wrapped(error)
    if found is None:
        return False
    exists = "already exists" in str(found.orig) or "UNIQUE constraint failed" in str(found.orig)
    return exists or _is_one_of(found, OVERTAKEN | LOCKED)


def comes_back(error: BaseException) -> bool:
    """Whether the same transaction may succeed later: the server restarts, or something is locked."""
    return isinstance(driver_error(error), ConnectionError | TimeoutError) or _is_one_of(error, COMES_BACK)


def is_refused(error: BaseException) -> bool:
    """Whether the database says no for good: a wrong password or a missing right stays one."""
    cause: BaseException | None = error
    while cause is not None:
        if code_of(driver_error(cause)) in REFUSED:
            return True
        cause = cause.__cause__
    return False


def _is_one_of(error: BaseException, codes: set[int]) -> bool:
    """Whether it is one of MySQL's codes, or SQLite's lock wait, which has none."""
    original = driver_error(error)
    return code_of(original) in codes or "database is locked" in str(original)


def explain(error: BaseException, url: str | sqlalchemy.URL) -> StorageError:
    """One sentence for a database error: what failed, where, and what to do."""
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
