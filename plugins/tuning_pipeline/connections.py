"""Airflow connections as this pipeline uses them: looked up with a clear error, passwords masked, URLs built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from optuna_spark.errors import TlsError
from optuna_spark.tls import KEYS, TlsSettings
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from airflow.sdk import Connection

MYSQL_PORT = 3306


def find_connection(conn_id: str) -> Connection | None:
    """The connection with its password masked in every log, or None when there is none of that id."""
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None
    if connection.password:
        mask_secret(connection.password)
        mask_secret(quote(connection.password, safe=""))
    return connection


def require_connection(conn_id: str, purpose: str) -> Connection:
    """The connection.

    Raises:
        TaskError: There is none of that id.
    """
    connection = find_connection(conn_id)
    if connection is None:
        raise TaskError(
            Failure(
                what=f"Airflow has no connection {conn_id!r} ({purpose})",
                next=f"Add it under Admin > Connections, or name another one under connections in the study file;"
                f" the environment variable AIRFLOW_CONN_{conn_id.upper()} works too.",
            )
        )
    return connection


def database_connection(conn_id: str) -> Connection:
    """The tuning account's connection: a MySQL server and database, or an SQLite file.

    Raises:
        TaskError: It is missing or incomplete.
    """
    connection = require_connection(conn_id, "the study's database")
    missing = {
        "mysql": [n for n in ("host", "login", "password", "schema") if not getattr(connection, n)],
        "sqlite": [] if (connection.host or "").startswith("/") else ["host (an absolute path)"],
    }.get(connection.conn_type or "")
    if missing is None:
        raise _incomplete(conn_id, f"has type {connection.conn_type!r}, but only mysql and sqlite are supported")
    if missing:
        raise _incomplete(conn_id, f"lacks {', '.join(missing)}")
    tls_settings(connection)
    return connection


def storage_url(connection: Connection) -> sqlalchemy.URL:
    """The storage URL of Optuna for a connection that `database_connection` accepted."""
    if connection.conn_type == "sqlite":
        return sqlalchemy.URL.create("sqlite", database=connection.host)
    return sqlalchemy.URL.create(
        "mysql+pymysql",
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port or MYSQL_PORT,
        database=connection.schema,
        query=tls_settings(connection).keys(),
    )


def tls_settings(connection: Connection) -> TlsSettings:
    """How the connection's extra says that it is to be sealed.

    Raises:
        TaskError: A key is not known, or its value is wrong.
    """
    given = dict(connection.extra_dejson)
    try:
        if "ssl" in given:
            given |= _nested(given.pop("ssl"))
        return TlsSettings.from_keys(given)
    except TlsError as error:
        raise TaskError(
            Failure(
                what=f"connection {connection.conn_id!r} asks for TLS in a way that cannot be kept",
                why=str(error),
                next=f"Correct its extra; the keys are {KEYS}.",
            )
        ) from error


def _nested(ssl: Any) -> dict[str, Any]:
    """The keys for {"ca": ..., "cert": ..., "key": ...} of Airflow's MySQL hook, which PyMySQL always took as this.

    Raises:
        TlsError: It holds something else.
    """
    if not isinstance(ssl, dict) or not ssl or set(ssl) - {"ca", "cert", "key"}:
        raise TlsError("'ssl' is taken with ca, cert and key only: write ssl_mode, ssl_ca, ssl_cert, ssl_key instead")
    mode = "VERIFY_IDENTITY" if "ca" in ssl else "REQUIRED"
    return {"ssl_mode": mode} | {f"ssl_{name}": path for name, path in ssl.items()}


def _incomplete(conn_id: str, problem: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"connection {conn_id!r} {problem}",
            next="A MySQL connection needs host, login, password and schema (the database's name).",
        )
    )
