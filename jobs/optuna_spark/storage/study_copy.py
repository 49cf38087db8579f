"""Copies a study's whole database into one SQLite file and back. The file outlives a cluster whose MySQL ends with it.

Rows are copied as they are, with their ids. So a restored study is complete, down to the trials that a run left
running. Rows with which a run coordinates its workers are not copied: its next start makes them from the trials.
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

from optuna_spark.database.engine import engine_options
from optuna_spark.database.url import parse_url
from optuna_spark.errors import StorageError
from optuna_spark.storage.optuna_storage import close_storage, create_storage

log = logging.getLogger(__name__)

CHUNK = 1000
# Optuna writes these tables when it makes its schema. They must be equal on both sides, so they are not copied.
VERSIONS = ("alembic_version", "version_info")


def copy_database(source: str | sa.URL, target: str | sa.URL) -> int:
    """Replace the studies in `target` by those in `source`, as they are at one moment.

    Returns:
        The number of rows copied.

    Raises:
        StorageError: One side cannot be used, or the two have different schema versions.
    """
    _make_tables(target)
    origin, copy = _engine(source), _engine(target)
    try:
        # In one transaction, MySQL's default isolation shows all tables as they are at one moment.
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
    # Tables are sorted by foreign key: delete rows before those they refer to, and insert them after.
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
        # SQLAlchemy would read a reflected MySQL DOUBLE as a decimal of ten places.
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
    close_storage(create_storage(url))


def _engine(url: str | sa.URL) -> sa.Engine:
    return sa.create_engine(parse_url(url), **engine_options(url))


def sqlite_url(path: Path) -> sa.URL:
    return sa.URL.create("sqlite", database=str(path))


class StudyCopy:
    """The copy of a study on a Databricks Volume.

    A Volume only takes whole files, so SQLite works on a local file, which is then copied there.

    Args:
        path: File of the copy.
        url: The database that holds the study during the run.
    """

    def __init__(self, path: Path, url: str | sa.URL) -> None:
        self.path, self._url = path, url
        self._lock = threading.Lock()

    def restore(self) -> bool:
        """Fill the database from the copy, if there is one. Returns whether there is one."""
        if not self.path.exists():
            log.info("[tuning] No copy of the study at %s: a new study", self.path)
            return False
        with tempfile.TemporaryDirectory() as folder:
            local = Path(shutil.copyfile(self.path, Path(folder) / "study.db"))
            rows = copy_database(sqlite_url(local), self._url)
        log.info("[tuning] Restored the study from %s (%s rows)", self.path, rows)
        return True

    def dump(self) -> None:
        """Replace the copy by the present state of the database."""
        # The lock keeps two dumps from writing the same part. Replacing the file at the end leaves no half copy behind.
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
        """Dump every `every_s` seconds while the block runs, and once more at its end, however it ends."""
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
