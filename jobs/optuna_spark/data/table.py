"""The table of a run as it stands in its file, for objectives that make of it what they need."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import pyarrow as pa

from optuna_spark.data.cache import LruCache
from optuna_spark.data.column_roles import column_words
from optuna_spark.data.fetch import local_file
from optuna_spark.data.read_arrow import Columns, bundled_table, open_table
from optuna_spark.data.test_rows import training_part
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets

# One table: a worker has one study at a time.
_tables: LruCache[pa.Table] = LruCache(1)


def read_table(data: DataSpec, secrets: DataSecrets | None = None) -> pa.Table:
    """All columns of the table of `data`, read by this process, once. Thread-safe.

    Args:
        data: A CSV or Parquet file, a folder of Parquet files, a URL of one, or a table of scikit-learn's.
        secrets: What the connection of `data` holds.

    Raises:
        DataError: The table is missing, unreadable, or has two columns of one name.
    """
    path = None if data.is_bundled else local_file(data, secrets)
    return _tables.get((repr(data), *file_version(path)), lambda: _whole(open_columns(data, path), data))


def read_training_table(data: DataSpec, secrets: DataSecrets | None = None) -> pa.Table:
    """The same without the test rows, which no trial may see.

    Raises:
        DataError: As `read_table`, or the test rows cannot be told.
    """
    return training_part(read_table(data, secrets), data)


def data_file(data: DataSpec, secrets: DataSecrets | None = None) -> Path:
    """The file of `data` on this machine: fetched where it is a URL, checked where there is a digest.

    Raises:
        DataError: It is missing, is another than the digest says, or is no file.
    """
    if data.is_bundled:
        raise DataError(f"data.path {data.path!r} is a table of scikit-learn's and has no file: use read_table()")
    return local_file(data, secrets)


def open_columns(data: DataSpec, path: Path | None) -> Columns:
    """The table at `path`; without one, that of scikit-learn's.

    Raises:
        DataError: It cannot be read.
    """
    return bundled_table(data.path) if path is None else open_table(data, path)


def file_version(path: Path | None) -> tuple[Hashable, ...]:
    """A value that changes with the file's content: a reused Python worker must not train on an old table."""
    if path is None:
        return ()
    stat = path.stat()
    return (str(path), stat.st_mtime_ns, stat.st_size)


def forget_tables() -> None:
    """Drop what `read_table` keeps."""
    _tables.clear()


def _whole(table: Columns, data: DataSpec) -> pa.Table:
    return table.select(list(column_words(table.column_names, data)))
