"""One kept connection to a SQL database, for short transactions at the lowest cost.

SQLAlchemy makes the connection (URL, driver, options); statements go to the driver directly, which is a
quarter of the work, and that work competes with the sampler for the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from optuna_spark.storage import parse_url

# MySQL and MariaDB: interface closed, too many connections, shutting down, lock wait, deadlock, read-only after a
# failover, query interrupted, connection killed; cannot connect (two kinds), server gone, connection lost (two).
_COMES_BACK = {0, 1040, 1053, 1205, 1213, 1290, 1317, 1927, 2002, 2003, 2006, 2013, 2055}
WAIT_S = 60  # no statement takes as long; a server that has vanished would else be waited for without an end
_MYSQL: dict[str, Any] = {
    "isolation_level": "READ COMMITTED",  # each statement sees what others have committed: needed to notice them
    "connect_args": {"connect_timeout": 10, "read_timeout": WAIT_S, "write_timeout": WAIT_S, "charset": "utf8mb4"},
}
_SQLITE: dict[str, Any] = {"connect_args": {"timeout": WAIT_S}}


class Transaction:
    """Statements within one transaction. Parameters are written `%s`, whatever the driver wants."""

    def __init__(self, cursor: Any, qmark: bool) -> None:
        self._cursor, self._qmark = cursor, qmark

    def execute(self, statement: str, *parameters: Any) -> int:
        """Run a statement; returns the number of rows it matched."""
        self._cursor.execute(self._text(statement), parameters)
        return int(self._cursor.rowcount)

    def execute_many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run a statement for each row, as one where the driver can (PyMySQL: INSERT ... VALUES)."""
        if not rows:
            return 0
        self._cursor.executemany(self._text(statement), rows)
        return int(self._cursor.rowcount)

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        self._cursor.execute(self._text(statement), parameters)
        return list(self._cursor.fetchall())

    def _text(self, statement: str) -> str:
        return statement.replace("%s", "?") if self._qmark else statement


class Database:
    """Keeps one connection, and replaces it after any failure. Used by one thread at a time.

    Attributes:
        driver_error: Base of the errors it raises: the driver's own.
    """

    def __init__(self, url: str | sa.URL) -> None:
        parsed = parse_url(url)
        options = _MYSQL if parsed.get_backend_name() == "mysql" else _SQLITE
        self._engine = sa.create_engine(parsed, poolclass=sa.NullPool, **options)
        self._qmark = self._engine.dialect.paramstyle == "qmark"
        self.driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._connection: sa.PoolProxiedConnection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit at the end; after an error nothing of it is in the database, unless the commit itself failed."""
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        try:
            cursor = self._connection.cursor()
            yield Transaction(cursor, self._qmark)
            cursor.close()
            self._connection.commit()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection, and what was not committed; the next transaction opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()


def comes_back(error: Exception) -> bool:
    """Whether the same transaction may succeed later: the server restarts, or something is locked."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, ConnectionError | TimeoutError):
        return True
    code = original.args[0] if original is not None and original.args else None
    return code in _COMES_BACK or "database is locked" in str(original)
