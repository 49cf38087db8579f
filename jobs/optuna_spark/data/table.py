"""The table of a run as it stands in its files, for objectives that make of it what they need."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from optuna_spark.data.cache import LruCache
from optuna_spark.data.files.columns import Columns, chosen
from optuna_spark.data.files.listing import TableFiles
from optuna_spark.data.files.missing import without_missing_words
from optuna_spark.data.files.read_arrow import bundled_table, open_files
from optuna_spark.data.sources import held_still, local_file, table_files
from optuna_spark.data.test_rows import training_part
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets

# One table: a worker has one study at a time.
_tables: LruCache[pa.Table] = LruCache(1)


def read_table(data: DataSpec, secrets: DataSecrets | None = None) -> pa.Table:
    """The columns of the table of `data`, read by this process, once. Thread-safe.

    Args:
        data: CSV or Parquet files, a URL of one, or a table of scikit-learn's.
        secrets: What the connection of `data` holds.

    Raises:
        DataError: The table is missing, unreadable, or has two columns of one name.
    """
    files = None if data.is_bundled else table_files(data, secrets)
    version = () if files is None else files.version
    return _tables.get((repr(data), version), lambda: _read(data, files, secrets))


def read_afresh(data: DataSpec, secrets: DataSecrets | None = None) -> pa.Table:
    """The same, without keeping it."""
    return _read(data, None if data.is_bundled else table_files(data, secrets), secrets)


def _read(data: DataSpec, files: TableFiles | None, secrets: DataSecrets | None) -> pa.Table:
    with held_still(data, files, secrets):
        return _whole(open_columns(data, files))


def read_training_table(data: DataSpec, secrets: DataSecrets | None = None) -> pa.Table:
    """The same without the test rows, which no trial may see.

    Raises:
        DataError: As `read_table`, or the test rows cannot be told.
    """
    return training_part(read_table(data, secrets), data)


def data_file(data: DataSpec, secrets: DataSecrets | None = None) -> Path:
    """The file of `data` on this machine: fetched where it is a URL, checked where there is a digest.

    Raises:
        DataError: It is missing, is another than the digest says, or there is none, or more than one.
    """
    if data.is_bundled:
        raise DataError(f"data.path {data.path!r} is a table of scikit-learn's and has no file: use read_table()")
    return local_file(data, secrets)


def open_columns(data: DataSpec, files: TableFiles | None) -> Columns:
    """The table in these files; without them, that of scikit-learn's.

    Raises:
        DataError: It cannot be read.
    """
    return as_chosen(bundled_table(data.location), data) if files is None else open_files(files, data)


def as_chosen(table: pa.Table, data: DataSpec) -> pa.Table:
    """The columns of a table that no file says more of, as `data.columns` and `data.missing` have them.

    Raises:
        DataError: They name none of its columns, or two have the same name.
    """
    return without_missing_words(table.select(chosen(table.schema, data, data.location)), data)


def forget_tables() -> None:
    """Drop what `read_table` keeps."""
    _tables.clear()


def _whole(table: Columns) -> pa.Table:
    """All columns, without what a program has noted in the file besides."""
    return table.select(table.schema.names).replace_schema_metadata(None)
