"""Airflow connections: finds them, masks their secrets in logs, and builds storage URLs from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from optuna_spark.database.tls import KEYS, TlsSettings
from optuna_spark.errors import TlsError
from optuna_spark.spec.plain_secrets import holds_secret
from tuning_pipeline.database.readable_connections import check_readable, is_in_environment, plain_host, unreadable
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from tuning_pipeline.study_file.settings import StudySettings

MYSQL_PORT = 3306
# Airflow masks no shorter text, because that would hide half of every log.
_SHORTEST = 5


def find_connection(conn_id: str, *, everything: bool = False) -> Connection | None:
    """The connection, whose secrets are masked in every log from now on; None if there is no such connection.

    Args:
        conn_id: The connection's id.
        everything: Whether all of its extra is secret, and not only what looks like a secret.

    Raises:
        TaskError: The connection cannot be used as it is.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        if is_in_environment(conn_id):  # Airflow says "not found" also for one that it cannot parse
            raise unreadable(conn_id) from None
        return None
    check_readable(connection)
    _mask(connection, everything)
    return connection


def mask_connections(settings: StudySettings) -> None:
    """Mask the secrets of all connections that a study names, also of those that the task does not use."""
    named = [getattr(settings.connections, place.name) for place in fields(settings.connections)]
    further = (settings.data and settings.data.connection, settings.tracking and settings.tracking.mlflow)
    for conn_id in (*named, *further):
        if conn_id:
            find_connection(conn_id)
    if settings.spark.conf_connection:
        find_connection(settings.spark.conf_connection, everything=True)


def _mask(connection: Connection, everything: bool) -> None:
    """Mask the password and the secrets in the extra, in all forms in which a log or a URL may show them."""
    secrets = [connection.password] if connection.password else []
    secrets += _secret_texts(connection.extra_dejson, everything)
    for secret in secrets:
        # Line by line, because a log shows the lines of a key one at a time.
        for text in {secret, quote(secret, safe=""), *secret.splitlines()}:
            if len(text) >= _SHORTEST:
                mask_secret(text)


def _secret_texts(value: Any, everything: bool, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secret_texts(inner, everything, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _secret_texts(inner, everything, name)
    elif isinstance(value, str) and not _is_word(value) and (everything or holds_secret(name, value)):
        yield value


def _is_word(value: str) -> bool:
    """Whether a value is so common that masking it would hide half of every log."""
    return value.isdigit() or value.lower() in ("true", "false")


def require_connection(conn_id: str, purpose: str, *, everything: bool = False) -> Connection:
    """The connection, as `find_connection` returns it.

    Args:
        conn_id: The connection's id.
        purpose: What it is for; part of the error.
        everything: As for `find_connection`.

    Raises:
        TaskError: There is no such connection, or it cannot be used as it is.
    """
    connection = find_connection(conn_id, everything=everything)
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
    """The connection of the tuning account: to a MySQL server and database, or to an SQLite file.

    Raises:
        TaskError: The connection is missing or incomplete.
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
    """Optuna's storage URL for a connection that `database_connection` returned. It holds the password."""
    if connection.conn_type == "sqlite":
        return sqlalchemy.URL.create("sqlite", database=connection.host)
    return sqlalchemy.URL.create(
        "mysql+pymysql",
        username=connection.login,
        password=connection.password,
        host=plain_host(str(connection.host)),
        port=connection.port or MYSQL_PORT,
        database=connection.schema,
        query=tls_settings(connection).keys(),
    )


def tls_settings(connection: Connection) -> TlsSettings:
    """The TLS settings in the connection's extra.

    Raises:
        TaskError: A key is unknown, or its value is wrong.
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
    """Our keys for Airflow's own form, {"ssl": {"ca": ..., "cert": ..., "key": ...}}. The meaning is PyMySQL's.

    Raises:
        TlsError: It holds another key.
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
