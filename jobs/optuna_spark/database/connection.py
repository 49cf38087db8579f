"""One connection to a SQL database that is kept open, for short transactions at the lowest cost.

SQLAlchemy opens the connection (URL, driver, options). Statements bypass it: they go to the driver directly, and to
PyMySQL many in one message, which takes a small part of SQLAlchemy's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from optuna_spark.database.mysql_connection import opener
from optuna_spark.database.url import parse_url

# No statement takes this long. Without a limit, a server that has vanished would be waited for without an end.
WAIT_S = 60
_MYSQL: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": WAIT_S,
    "write_timeout": WAIT_S,
    "charset": "utf8mb4",
}
# Threads use a connection in turn (PatientDatabase), which SQLite must be told.
_SQLITE: dict[str, Any] = {"timeout": WAIT_S, "check_same_thread": False}
_MULTI_STATEMENTS = 1 << 16  # CLIENT_MULTI_STATEMENTS of MySQL's protocol
_MAX_SENT = 1024 * 1024  # characters at a time; servers take 16 MiB and more

T = TypeVar("T")
# SQL with a `%s` for each parameter, and the rows of parameters: it runs once for each row.
Statement = tuple[str, Sequence[tuple[Any, ...]]]


@dataclass
class Done:
    """The result of a statement: how many rows it matched, and the rows that it selected."""

    matched: int = 0
    rows: list[tuple[Any, ...]] = field(default_factory=list)


class Transaction:
    """Runs statements within one transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._cursor = connection, connection.cursor()
        self._open = True

    def run(self, *statements: Statement) -> list[Done]:
        """Run the statements in their order, and return the result of each."""
        return [self._run(text.replace("%s", "?"), rows) for text, rows in statements]

    def run_and_commit(self, *statements: Statement) -> list[Done]:
        """Run the last statements, commit, and return the result of each."""
        results = self.run(*statements)
        self.commit()
        return results

    def commit(self) -> None:
        """Commit, unless that has been done."""
        if self._open:
            self._connection.commit()
        self._open = False

    def _run(self, text: str, rows: Sequence[tuple[Any, ...]]) -> Done:
        done = Done()
        for row in rows:
            self._cursor.execute(text, row)
            self._take(done)
        return done

    def _take(self, done: Done) -> None:
        done.matched += self._cursor.rowcount
        if self._cursor.description:
            done.rows += self._cursor.fetchall()


class PyMySqlTransaction(Transaction):
    """A transaction that sends the server as few messages as possible."""

    def run(self, *statements: Statement) -> list[Done]:
        results = [Done() for _ in statements]
        texts = (
            (single, done)
            for done, (text, rows) in zip(results, statements, strict=True)
            for single in self._texts(text, rows)
        )
        for portion in _portions(texts, lambda pair: len(pair[0])):
            self._send(portion)
        return results

    def run_and_commit(self, *statements: Statement) -> list[Done]:
        # COMMIT goes with the last statements: a message of its own would cost a round trip.
        *results, _ = self.run(*statements, ("COMMIT", [()]))
        self._open = False
        return results

    def _texts(self, text: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[str]:
        """The statement with its parameters filled in, once for each row. Rows of an INSERT share one statement."""
        head, values, parameters = text.partition(" VALUES ")
        if not values:
            yield from (self._cursor.mogrify(text, row) for row in rows)
            return
        for tuples in _portions((self._cursor.mogrify(parameters, row) for row in rows), len):
            yield f"{head} VALUES {', '.join(tuples)}"

    def _send(self, portion: Sequence[tuple[str, Done]]) -> None:
        self._cursor.execute(";".join(text for text, _ in portion))
        self._take(portion[0][1])
        for _, done in portion[1:]:
            self._cursor.nextset()
            self._take(done)


def _portions(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Split items into lists of at most `_MAX_SENT` in size, in their order. Each list holds at least one item."""
    portion, total = list[T](), 0
    for item in items:
        if portion and total + size(item) > _MAX_SENT:
            yield portion
            portion, total = [], 0
        portion.append(item)
        total += size(item)
    if portion:
        yield portion


class Database:
    """Keeps one connection open, and replaces it after any failure. Used by one thread at a time.

    Attributes:
        driver_error: Base class of the driver's errors, which it raises.
        integrity_error: The driver's error for a row whose foreign key refers to nothing.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._url = parsed = parse_url(url)
        is_mysql = parsed.get_backend_name() == "mysql"
        if is_mysql:
            flags = int(str(parsed.query.get("client_flag", 0))) | _MULTI_STATEMENTS
            parsed = parsed.update_query_dict({"client_flag": str(flags)})
        self._transaction = PyMySqlTransaction if is_mysql else Transaction
        self._engine = _mysql_engine(parsed) if is_mysql else _engine(parsed, connect_args=_SQLITE)
        driver = self._engine.dialect.loaded_dbapi
        self.driver_error: type[Exception] = driver.Error
        self.integrity_error: type[Exception] = driver.IntegrityError
        self._connection: sa.PoolProxiedConnection | None = None

    def __reduce__(self) -> tuple[type[Database], tuple[sa.URL]]:
        """Pickle the URL only: a connection cannot move to another process."""
        return type(self), (self._url,)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that is committed at the end of the block.

        After an error the database holds nothing of it, unless the commit itself failed: then it may hold all.
        """
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        try:
            transaction = self._transaction(self._connection)
            yield transaction
            transaction.commit()
        except BaseException:
            self.close()  # the server rolls back, and a connection in an unknown state is not used again
            raise

    def close(self) -> None:
        """Drop the connection and what was not committed. The next transaction opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()


def _mysql_engine(url: sa.URL) -> sa.Engine:
    # READ COMMITTED: each statement sees what others have committed. That is how StudyWriter notices another writer.
    return _engine(url, creator=opener(url, _MYSQL), isolation_level="READ COMMITTED")


def _engine(url: sa.URL, **options: Any) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.NullPool, **options)  # Database keeps the one connection itself
