"""SQLAlchemy engines for a long run: they notice dead connections, bound each wait, and wait for a server's restart."""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy

from optuna_spark.database.mysql_connection import opener
from optuna_spark.database.mysql_errors import ABSENT, code_of
from optuna_spark.database.retries import ATTEMPTS, pause
from optuna_spark.database.url import parse_url

log = logging.getLogger(__name__)


def engine_options(url: str | sqlalchemy.URL) -> dict[str, Any]:
    """The arguments of `sqlalchemy.create_engine` for a long run."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 60}}
    connect = PatientConnect(parsed, {"connect_timeout": 10, "charset": "utf8mb4"})
    # A trial may run for hours between two uses. MySQL and firewalls drop a connection that is idle for so long.
    return {"pool_pre_ping": True, "pool_recycle": 1800, "creator": connect}


class PatientConnect:
    """Opens connections for an engine, and waits for the server when it restarts.

    It does not wait for the first connection: a wrong host or port is to be told at once.
    """

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
                if code_of(error) not in ABSENT:
                    raise
                log.warning("The database does not answer, attempt %s of %s", attempt, ATTEMPTS)
                pause(attempt)
        return self._connect()
