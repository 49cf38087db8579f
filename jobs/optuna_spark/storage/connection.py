"""One kept connection to a SQL database, for short transactions at the lowest cost.

SQLAlchemy makes the connection (URL, driver, options); statements go to the driver directly, and to PyMySQL many at
once. That is a small part of the work, and this work competes with the sampler for the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from optuna_spark.storage.mysql_connection import opener
from optuna_spark.storage.url import parse_url

WAIT_S = 60  # no statement takes as long; a server that has vanished would else be waited for without an end
_MYSQL: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": WAIT_S,
    "write_timeout": WAIT_S,
    "charset": "utf8mb4",
}
_SQLITE: dict[str, Any] = {"timeout": WAIT_S}
_MULTI_STATEMENTS = 1 << 16  # CLIENT_MULTI_STATEMENTS of MySQL's protocol
_MAX_SENT = 1024 * 1024  # characters at a time; servers take 16 MiB and more

T = TypeVar("T")
# Text with a `%s` for each parameter, and the parameters once for each time it is to run.
Statement = tuple[str, Sequence[tuple[Any, ...]]]


@dataclass
class Done:
    """What a statement did: how many rows it matched, and what it selected."""

    matched: int = 0
    rows: list[tuple[Any, ...]] = field(default_factory=list)


class Transaction:
    """Statements within one transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._cursor = connection, connection.cursor()
        self._open = True

    def run(self, *statements: Statement) -> list[Done]:
        """Run the statements in their order; what each of them did."""
        return [self._run(text.replace("%s", "?"), rows) for text, rows in statements]

    def run_and_commit(self, *statements: Statement) -> None:
        """The last statements, whose results do not matter, and the end of the transaction."""
        self.run(*statements)
        self.commit()

    def commit(self) -> None:
        """End the transaction, if that has not been done."""
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
    """The same in as few messages to the server as there can be."""

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

    def run_and_commit(self, *statements: Statement) -> None:
        self.run(*statements, ("COMMIT", [()]))
        self._open = False

    def _texts(self, text: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[str]:
        """With their parameters; the rows of an insertion together, as far as they are small."""
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
    """The items in their order, as many at a time as `_MAX_SENT` allows, and one at least."""
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
    """Keeps one connection, and replaces it after any failure. Used by one thread at a time.

    Attributes:
        driver_error: Base of the errors it raises: the driver's own.
        integrity_error: The one for a row that refers to nothing.
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
        """Another process gets the database, not the connection."""
        return type(self), (self._url,)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit at the end; after an error nothing of it is in the database, unless the commit itself failed."""
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        try:
            transaction = self._transaction(self._connection)
            yield transaction
            transaction.commit()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection, and what was not committed; the next transaction opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()


def _mysql_engine(url: sa.URL) -> sa.Engine:
    # READ COMMITTED: each statement sees what others have committed, which is needed to notice them.
    return _engine(url, creator=opener(url, _MYSQL), isolation_level="READ COMMITTED")


def _engine(url: sa.URL, **options: Any) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.NullPool, **options)
