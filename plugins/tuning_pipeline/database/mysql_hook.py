"""Airflow's MySQL hook on PyMySQL, and failure cards for MySQL's errors."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pymysql
from airflow.providers.mysql.hooks.mysql import MySqlHook
from pymysql.constants import CR, ER

from optuna_spark.database.mysql_connection import connect
from optuna_spark.database.mysql_errors import NO_PASSWORD_LOGIN, NOT_ALLOWED, NOT_READY, WEAK_PASSWORD, code_of
from tuning_pipeline.database.connections import MYSQL_PORT, tls_settings
from tuning_pipeline.database.readable_connections import plain_host, shown_host
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
PROGRESS_S = 5.0


class PyMySqlHook(MySqlHook):
    """A MySqlHook that connects with PyMySQL, which needs no compiler to install."""

    def get_conn(self) -> Any:
        """Open a PyMySQL connection to the server, and to the database if the Airflow connection names one.

        Raises:
            TlsError: A file for TLS cannot be used.
            pymysql.MySQLError: The server refuses, or offers no TLS although the connection asks for it.
        """
        connection = self.connection
        return connect(
            tls_settings(connection),
            host=plain_host(connection.host or "localhost"),
            port=int(connection.port or MYSQL_PORT),
            user=connection.login,
            password=connection.password or "",
            database=self.schema or connection.schema or None,
            unix_socket=connection.extra_dejson.get("unix_socket"),
            charset="utf8mb4",
            connect_timeout=CONNECT_TIMEOUT_S,
        )


def wait_for_server(hook: PyMySqlHook, connection: Connection, wait_s: float) -> None:
    """Wait until the server accepts the connection's account.

    A wrong password is an error at once. A database that does not exist yet is none.

    Raises:
        TaskError: The server refuses the account, or does not answer within `wait_s` seconds.
    """
    start = time.monotonic()
    shown = start
    while True:
        try:
            hook.get_conn().close()
            return
        except pymysql.MySQLError as error:
            code = code_of(error)
            if code in (ER.BAD_DB_ERROR, ER.DBACCESS_DENIED_ERROR):  # the login worked, only the database is missing
                return
            waited = time.monotonic() - start
            if code not in NOT_READY or waited >= wait_s:
                raise explain(error, connection) from error
        if time.monotonic() - shown >= PROGRESS_S or shown == start:
            log.info("Waiting for MySQL at %s (%.0f of %.0f s)", place(connection), waited, wait_s)
            shown = time.monotonic()
        time.sleep(min(1.0, wait_s - waited))


def place(connection: Connection) -> str:
    """Host and port, for messages."""
    return f"{shown_host(plain_host(connection.host or 'localhost'))}:{connection.port or MYSQL_PORT}"


def explain(error: BaseException, connection: Connection) -> TaskError:
    """A failure card for a MySQL error: one sentence, and the next step."""
    code, account, at = code_of(error), connection.login, place(connection)
    conn_id, database = connection.conn_id, connection.schema
    why = str(error.args[1]) if len(error.args) > 1 else str(error)
    if code in NOT_READY:
        what = f"no MySQL server answers at {at}"
        return _card(what, why, f"Start the server, or correct host and port of connection {conn_id!r}.", retry=True)
    if code == CR.CR_SSL_CONNECTION_ERROR:
        what = f"there is no TLS to MySQL at {at} as connection {conn_id!r} asks for it"
        return _card(what, why, "Give the server TLS, or correct ssl_mode and ssl_ca in the connection's extra.")
    if code in (ER.ACCESS_DENIED_ERROR, NO_PASSWORD_LOGIN):
        what = f"MySQL at {at} refuses account {account!r} or its password"
        return _card(what, why, f"Correct login and password of connection {conn_id!r}.")
    if code == ER.HOST_NOT_PRIVILEGED:
        what = f"MySQL at {at} accepts no connection from this machine"
        return _card(what, why, "Allow this host for the account, or set database.host_pattern in the study file.")
    if code == ER.BAD_DB_ERROR:
        what = f"MySQL at {at} has no database {database!r}"
        return _card(what, why, "Create it (init/mysql does), or add an admin connection, which lets this task do it.")
    if code == WEAK_PASSWORD:
        what = f"MySQL at {at} finds the password of connection {conn_id!r} too weak"
        return _card(what, why, "Choose a password that fits the server's policy.")
    if code in NOT_ALLOWED:
        what = f"account {account!r} lacks a right at {at}"
        return _card(what, why, f"Grant it, or correct connection {conn_id!r}.")
    return _card(f"MySQL at {at} reports an error", why, "Correct the server's state, then run again.", retry=True)


def _card(what: str, why: str, next: str, retry: bool = False) -> TaskError:
    return TaskError(Failure(what=what, why=why, next=next, retry=retry))
