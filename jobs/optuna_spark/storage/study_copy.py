"""A study's whole database as one SQLite file and back: what outlives a cluster whose MySQL dies with it.

Rows are copied as they are, numbers and ids included, so that a restored study is the study, the budget of an
unfinished run and the trials it left running included.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from optuna_spark.errors import StorageError
from optuna_spark.storage.claims import make_tables
from optuna_spark.storage.engine import engine_options
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.storage.url import parse_url

log = logging.getLogger(__name__)

CHUNK = 1000
# Written by Optuna when it makes its tables; equal on both sides, or the copy is refused.
VERSIONS = ("alembic_version", "version_info")


def copy_database(source: str | sa.URL, target: str | sa.URL) -> int:
    """Make the target hold exactly the studies of the source, read at one moment.

    Returns:
        The number of rows copied.

    Raises:
        StorageError: One side cannot be used, or they are of different schema versions.
    """
    _make_tables(target)
    origin, copy = _engine(source), _engine(target)
    try:
        # One transaction: MySQL's default isolation shows it one state of all tables.
        with origin.connect() as reading, copy.begin() as writing:
            return _copy_rows(reading, writing)
    except sa.exc.DBAPIError as error:
        raise StorageError(f"the study cannot be copied: {error.orig}") from error
    finally:
        origin.dispose()
        copy.dispose()


def _copy_rows(reading: sa.Connection, writing: sa.Connection) -> int:
    here, there = _tables(reading), _tables(writing)
    _check_versions(reading, writing, here)
    tables = [t for t in here.sorted_tables if t.name in there.tables and t.name not in VERSIONS]
    for table in reversed(tables):
        writing.execute(sa.delete(there.tables[table.name]))
    copied = 0
    for table in tables:
        for rows in reading.execute(sa.select(table)).mappings().partitions(CHUNK):
            writing.execute(sa.insert(there.tables[table.name]), [dict(row) for row in rows])
            copied += len(rows)
    return copied


def _tables(connection: sa.Connection) -> sa.MetaData:
    metadata = sa.MetaData()

    @sa.event.listens_for(metadata, "column_reflect")
    def keep_all_digits(inspector: object, table: object, column: dict[str, Any]) -> None:
        # A reflected MySQL DOUBLE would be read as a decimal of ten places.
        if isinstance(column["type"], sa.Float):
            column["type"] = sa.Double()

    metadata.reflect(connection)
    return metadata


def _check_versions(reading: sa.Connection, writing: sa.Connection, here: sa.MetaData) -> None:
    statement = sa.text("SELECT version_num FROM alembic_version")
    if "alembic_version" not in here.tables:
        raise StorageError("the study's copy holds no Optuna tables: delete the file, or trigger with mode reset")
    found, wanted = reading.execute(statement).scalar(), writing.execute(statement).scalar()
    if found != wanted:
        raise StorageError(
            f"the study's copy holds Optuna schema {found}, this Optuna has {wanted}:"
            " run `optuna storage upgrade` on it"
        )


def _make_tables(url: str | sa.URL) -> None:
    storage = create_storage(url)
    make_tables(storage.engine)
    close_storage(storage)


def _engine(url: str | sa.URL) -> sa.Engine:
    return sa.create_engine(parse_url(url), **engine_options(url))


def sqlite_url(path: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(path))


class StudyCopy:
    """The copy of a study on a Volume.

    Volumes take whole files only, so SQLite works on a file of the local disk that is then moved there.

    Args:
        path: The copy.
        url: The database the study lives in while the run lasts.
    """

    def __init__(self, path: Path, url: str | sa.URL) -> None:
        self.path, self._url = path, url
        self._lock = threading.Lock()

    def restore(self) -> bool:
        """Fill the database from the copy, if there is one. Returns whether there was."""
        if not self.path.exists():
            log.info("[tuning] No copy of the study at %s: a new study", self.path)
            return False
        with tempfile.TemporaryDirectory() as folder:
            local = Path(shutil.copyfile(self.path, Path(folder) / "study.db"))
            rows = copy_database(sqlite_url(local), self._url)
        log.info("[tuning] Restored the study from %s (%s rows)", self.path, rows)
        return True

    def dump(self) -> None:
        """Replace the copy with the database's present state."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "study.db"
            rows = copy_database(self._url, sqlite_url(local))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f"{self.path.name}.part")
            shutil.copyfile(local, part)
            os.replace(part, self.path)  # noqa: PTH105  # says that an existing file is replaced
        log.info("[tuning] Saved the study to %s (%s rows)", self.path, rows)

    @contextmanager
    def kept(self, every_s: float) -> Iterator[None]:
        """Dump every so many seconds while the block runs, and once more when it ends, however it ends."""
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended, every_s), daemon=True, name="study-copy")
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()
            self.dump()

    def _keep(self, ended: threading.Event, every_s: float) -> None:
        while not ended.wait(every_s):
            try:
                self.dump()
            except (StorageError, OSError) as error:
                log.warning("[tuning] The study could not be saved to %s: %s", self.path, error)
