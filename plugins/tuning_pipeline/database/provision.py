"""Prepares the study's database: waits for the server, makes the database, an account with few rights, and the tables.

Everything here may run any number of times, and leaves the same state.
"""

from __future__ import annotations

import logging
import re
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import pymysql
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from optuna_spark.database.mysql_errors import driver_error
from optuna_spark.storage.optuna_tables import LETTERS
from tuning_pipeline.database.account import (
    READ_WRITE,
    RIGHTS,
    account_host,
    check_admin_is_as_safe,
    create_account,
    grant_pattern,
    warn_about_extra_rights,
    wider_accounts,
)
from tuning_pipeline.database.connections import database_connection, find_connection, storage_url
from tuning_pipeline.database.lease_table import LEASES
from tuning_pipeline.database.mysql_hook import (
    PyMySqlHook,
    explain,
    place,
    wait_for_server,
)
from tuning_pipeline.database.schema import ensure_schema, schema_lock
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from tuning_pipeline.study_file.settings import StudySettings

log = logging.getLogger(__name__)

_IDENTIFIER = re.compile(r"[A-Za-z0-9_]{1,64}")
_ACCOUNT = re.compile(r"[A-Za-z0-9_.-]{1,32}")


def provision(settings: StudySettings) -> dict[str, Any]:
    """Prepare the database of a study.

    Returns:
        Names for the log: database, server and schema version. With an admin connection also the account, and other
        accounts of its name for more hosts. No secret.

    Raises:
        TaskError: The database cannot be prepared.
    """
    connection = database_connection(settings.connections.database)
    if connection.conn_type == "sqlite":
        return {"database": connection.host, "server": "sqlite", "schema": _create_tables(connection, None)}
    _check_names(connection)
    admin = find_connection(settings.connections.admin)
    hook = PyMySqlHook(connection=connection)
    made: dict[str, Any] = {}
    try:
        if admin is None:
            _check_access(hook, connection, settings.database.wait_s)
        else:
            made = _provision_as_admin(admin, connection, settings)
    except pymysql.MySQLError as error:
        raise explain(error, connection) from error
    return {
        "database": connection.schema,
        "server": place(connection),
        "schema": _create_tables(connection, hook),
    } | made


def _provision_as_admin(admin: Connection, connection: Connection, settings: StudySettings) -> dict[str, Any]:
    if admin.login == connection.login:
        raise _same_account(admin, connection)
    check_admin_is_as_safe(admin, connection)
    hook = PyMySqlHook(connection=admin)
    wait_for_server(hook, admin, settings.database.wait_s)
    try:
        with closing(hook.get_conn()) as server, server.cursor() as cursor:
            host = account_host(cursor, settings, admin, connection)
            _create_database(cursor, str(connection.schema))
            create_account(cursor, connection, host)
            warn_about_extra_rights(cursor, connection, host)
            wider = wider_accounts(cursor, connection, host)
    except pymysql.MySQLError as error:
        raise explain(error, admin) from error
    account = {"account": f"'{connection.login}'@'{host}'"}
    return account | {"wider_accounts": wider} if wider else account


def _create_database(cursor: Any, name: str) -> None:
    if cursor.execute(
        "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", name
    ):
        (charset,) = cursor.fetchone()
        if charset != "utf8mb4":
            log.warning("Database %s has character set %s: a study's name must fit into that", name, charset)
        return
    cursor.execute(f"CREATE DATABASE IF NOT EXISTS {_quoted(name)} {LETTERS}")
    log.info("Created database %s", name)


_OWN_RIGHTS = """
    SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = %(grantee)s
    UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
        WHERE GRANTEE = %(grantee)s AND %(database)s LIKE TABLE_SCHEMA
"""


def _check_access(hook: PyMySqlHook, connection: Connection, wait_s: float) -> None:
    """Check, without an admin connection, that the tuning account has the rights that the study needs."""
    wait_for_server(hook, connection, wait_s)
    with closing(hook.get_conn()) as server, server.cursor() as cursor:
        cursor.execute("SELECT CURRENT_USER()")
        account, host = cursor.fetchone()[0].rsplit("@", 1)
        cursor.execute(_OWN_RIGHTS, {"grantee": f"'{account}'@'{host}'", "database": connection.schema})
        rights = {right for (right,) in cursor.fetchall()}
        # information_schema does not list the rights of a role. SHOW GRANTS names the role, without " ON ".
        if cursor.execute("SHOW GRANTS") and any(" ON " not in grant for (grant,) in cursor.fetchall()):
            log.info("Account %s has rights from a role, which cannot be checked before they are used", account)
            return
        needed = _rights_needed(cursor)
    missing = [right for right in needed if right not in rights]
    if missing:
        raise _lacks(missing, connection, f"'{account}'@'{host}'")


def _rights_needed(cursor: Any) -> tuple[str, ...]:
    """The rights that are needed. They depend on which tables exist already: Optuna's, and the table of leases."""
    if not cursor.execute("SHOW TABLES LIKE 'alembic\\_version'"):
        return RIGHTS
    return READ_WRITE if cursor.execute("SHOW TABLES LIKE %s", LEASES.name) else (*READ_WRITE, "CREATE")


def _create_tables(connection: Connection, hook: PyMySqlHook | None) -> str:
    lock = nullcontext() if hook is None else schema_lock(hook, str(connection.schema))
    try:
        with lock:
            return ensure_schema(storage_url(connection))
    except (DBAPIError, StorageInternalError) as error:
        if hook is None:
            raise _unusable_file(connection, driver_error(error)) from error
        raise explain(driver_error(error), connection) from error
    except pymysql.MySQLError as error:
        raise explain(error, connection) from error


def _check_names(connection: Connection) -> None:
    for kind, name, rule in (("schema", connection.schema, _IDENTIFIER), ("login", connection.login, _ACCOUNT)):
        if not rule.fullmatch(name or ""):
            raise TaskError(
                Failure(
                    what=f"{kind} of connection {connection.conn_id!r} must match {rule.pattern}, got {name!r}",
                    next="Choose a plain name: letters, digits and underscores.",
                )
            )
    # PyMySQL sends a login's password as Latin-1, but the one in CREATE USER as UTF-8. Beyond ASCII the two differ.
    if not (connection.password or "").isascii():
        raise TaskError(
            Failure(
                what=f"the password of connection {connection.conn_id!r} holds a character outside ASCII",
                next="Choose one of letters, digits and signs; it is given to the account when you run again.",
            )
        )


def _quoted(identifier: str) -> str:
    """A checked identifier in quotes. SQL has no parameters for identifiers."""
    if not _IDENTIFIER.fullmatch(identifier):
        raise ValueError(f"not an identifier: {identifier!r}")
    return f"`{identifier}`"


def _same_account(admin: Connection, connection: Connection) -> TaskError:
    return TaskError(
        Failure(
            what=f"connections {admin.conn_id!r} and {connection.conn_id!r} use the same account {admin.login!r}",
            why="the tuning account gets the rights on one database only, and its password is set",
            next=f"Give connection {connection.conn_id!r} an account of its own; it will be created.",
        )
    )


def _lacks(missing: list[str], connection: Connection, grantee: str) -> TaskError:
    pattern = grant_pattern(connection)
    return TaskError(
        Failure(
            what=f"account {grantee} lacks {', '.join(missing)} on database {connection.schema!r}",
            next=f"As administrator: GRANT {', '.join(missing)} ON `{pattern}`.* TO {grantee}; or add an admin"
            " connection, which lets this task do it.",
        )
    )


def _unusable_file(connection: Connection, error: BaseException) -> TaskError:
    return TaskError(
        Failure(
            what=f"the SQLite file {connection.host} cannot be used",
            why=str(error),
            next=f"Correct the path in connection {connection.conn_id!r}; its folder must exist and be writable.",
        )
    )
