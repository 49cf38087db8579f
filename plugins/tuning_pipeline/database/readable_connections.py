"""Checks connections when they are first looked up: one that cannot be used is a failure card of one sentence."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from airflow.sdk import Connection

LAST_PORT = 65_535


def is_in_environment(conn_id: str) -> bool:
    """Whether an environment variable defines a connection with this id, even if Airflow cannot read it."""
    return _variable(conn_id) in os.environ


def unreadable(conn_id: str) -> TaskError:
    """A failure card for a connection in the environment that Airflow cannot read, and so says does not exist."""
    return TaskError(
        Failure(
            what=f"Airflow cannot read connection {conn_id!r} in the environment variable {_variable(conn_id)}",
            why=_why_unreadable(os.environ[_variable(conn_id)]),
            next='Correct it: {"conn_type": "mysql", "host": "db", "port": 3306, ...} as JSON, or a URI, mysql://...',
        )
    )


def _variable(conn_id: str) -> str:
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def _why_unreadable(text: str) -> str:
    """Why the text cannot be read, without quoting it: any part may be a password."""
    if not text.lstrip().startswith("{"):
        return "it is neither JSON in braces nor a URI of which each part is quoted"
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        return f"it is no JSON from line {error.lineno}, column {error.colno} on"
    for name in ("conn_type", "host", "login", "password", "schema"):
        if not isinstance(fields.get(name), str | None):
            return f"its {name} must be a text, in quotes"
    port = fields.get("port")
    if isinstance(port, str) and not port.isdigit():
        return f"its port must be a number from 1 to {LAST_PORT}, got {port[:20]!r}"
    return "its JSON holds a key or a kind of value that a connection does not have"


def check_readable(connection: Connection) -> None:
    """Refuse a connection that would fail later with a stack trace, or whose options would silently be ignored.

    Raises:
        TaskError: The port is not a valid port, or the extra is not a JSON object.
    """
    port = connection.port
    if port is not None and not 1 <= port <= LAST_PORT:
        raise _wrong(connection, f"its port must be a number from 1 to {LAST_PORT}, got {port}", "Correct the port.")
    if not (connection.extra or "").strip():
        return
    try:
        extra = json.loads(str(connection.extra))
    except json.JSONDecodeError as error:
        problem = f"its extra is no JSON from line {error.lineno}, column {error.colno} on"
        raise _wrong(connection, problem, _EXTRA) from None
    if not isinstance(extra, dict):
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(extra), "a number")
        raise _wrong(connection, f"its extra must be a JSON object, and is {kind}", _EXTRA)


_EXTRA = 'Write the extra as names and values in braces, such as {"ssl_mode": "REQUIRED"}, or leave it empty.'


def _wrong(connection: Connection, problem: str, next_step: str) -> TaskError:
    return TaskError(Failure(what=f"connection {connection.conn_id!r} cannot be used: {problem}", next=next_step))


def plain_host(host: str) -> str:
    """A host as sockets take it: without the brackets that an IPv6 address has in a URL."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def shown_host(host: str) -> str:
    """A host as it is written before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
