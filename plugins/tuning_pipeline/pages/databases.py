"""The databases that study files name: a dashboard over each, as long as it answers."""

from __future__ import annotations

import threading
import time
from functools import partial

import sqlalchemy as sa
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from optuna_spark.database.engine import engine_options
from optuna_spark.database.mysql_errors import explain
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.pages.dashboard import Dashboard
from tuning_pipeline.pages.tuning_run import study_places
from tuning_pipeline.study_file.keys.study_keys import ConnectionIds

# How long an answer of a database, and the list of study files' connections, are taken to hold.
FRESH_S, NAMED_S = 5.0, 30.0
# Fails wherever the dashboard cannot read studies.
STUDIES = "SELECT study_id FROM studies LIMIT 1"


class Databases:
    """Opens each database once, and anew after its connection was changed. Thread-safe."""

    def __init__(self) -> None:
        self._databases: dict[str, _Database] = {}
        self._named: tuple[float, list[str]] = (-NAMED_S, [])

    def names(self) -> list[str]:
        """The connections that study files name, the usual one first; that one alone if there are no study files."""
        since, named = self._named
        if time.monotonic() - since < NAMED_S:
            return named
        usual = ConnectionIds().database
        found = {place.database for place in study_places() if place.database}
        named = sorted(found or {usual}, key=lambda name: (name != usual, name))
        self._named = (time.monotonic(), named)
        return named

    def dashboard(self, conn_id: str) -> Dashboard:
        """The dashboard over a database that a request names.

        Raises:
            KeyError: No study file names this connection. Others are none of this page's business.
            TuningError: The connection is wrong, or the database does not answer.
        """
        if conn_id not in self.names():
            raise KeyError(conn_id)
        return self.of_study(conn_id)

    def of_study(self, conn_id: str) -> Dashboard:
        """The dashboard over a database that a study file names.

        Raises:
            TuningError: The connection is wrong, or the database does not answer.
        """
        url = storage_url(database_connection(conn_id))
        return self._databases.setdefault(conn_id, _Database()).dashboard(url)


class _Database:
    """The database of one connection. Its lock is its own: one that hangs keeps nobody from the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._storage: RDBStorage | None = None
        self._open: tuple[sa.URL, Dashboard] | None = None
        self._answered: tuple[sa.URL | None, float] = (None, 0.0)

    def dashboard(self, url: sa.URL) -> Dashboard:
        self._check_answers(url)
        with self._lock:
            if self._open is None or self._open[0] != url:
                self._open_anew(url)
            assert self._open is not None
            return self._open[1]

    def _open_anew(self, url: sa.URL) -> None:
        storage, replaced = create_storage(url), self._storage
        self._storage, self._open = storage, (url, Dashboard(storage, partial(look, url, STUDIES)))
        if replaced is not None:
            close_storage(replaced)

    def _check_answers(self, url: sa.URL) -> None:
        """Ask with a connection of its own: those of the dashboard wait long for a server that is away."""
        place, since = self._answered
        if place == url and time.monotonic() - since < FRESH_S:
            return
        look(url, "SELECT 1")
        self._answered = (url, time.monotonic())


def look(url: sa.URL, statement: str) -> None:
    """Run a statement.

    Raises:
        StorageError: The database does not answer, or refuses the account.
    """
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, **_few_options(url))
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
    except (SQLAlchemyError, OSError) as error:
        raise explain(error, url) from error
    finally:
        engine.dispose()


def _few_options(url: sa.URL) -> dict[str, object]:
    # NullPool takes no options of a pool.
    return {name: value for name, value in engine_options(url).items() if not name.startswith("pool_")}
