"""Reads a training table with Arrow: whole, or a few columns at a time if the format allows it."""

from __future__ import annotations

import pyarrow as pa

from optuna_spark.data.files.columns import Columns
from optuna_spark.data.files.content import UNREADABLE, head_of, is_parquet, known_compression
from optuna_spark.data.files.folder_columns import folder_columns
from optuna_spark.data.files.listing import TableFiles
from optuna_spark.data.files.read_csv import read_csv
from optuna_spark.data.files.read_parquet import ParquetColumns
from optuna_spark.data.files.reader_errors import unreadable
from optuna_spark.errors import DataError
from optuna_spark.spec.data import PARQUET_ENDINGS, DataSpec

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def open_files(files: TableFiles, data: DataSpec) -> Columns:
    """Open a table: CSV files are read whole now, Parquet is read when columns are selected.

    Raises:
        DataError: A file cannot be read as that format, or the files are not of one table.
    """
    folders = folder_columns(files, data)
    return (ParquetColumns if format_of(files, data) == "parquet" else read_csv)(files, folders, data)


def format_of(files: TableFiles, data: DataSpec) -> str:
    """What the study file says; else what the first file holds.

    Raises:
        DataError: The first file cannot be read.
    """
    if data.format is not None:
        return data.format
    file = files.files[0]
    kind = "parquet" if file.path.endswith(PARQUET_ENDINGS) else "csv"
    try:
        return "parquet" if is_parquet(head_of(files.filesystem, file)) else kind
    except UNREADABLE as error:
        raise unreadable(file, kind, error, known_compression(files.filesystem, file)) from None


def bundled_table(path: str) -> pa.Table:
    """A table that comes with scikit-learn. Its label is the last column, `target`.

    Raises:
        DataError: There is no such table.
    """
    import sklearn.datasets

    name = path.removeprefix("sklearn:")
    if name not in BUNDLED:
        raise DataError(f"data.path must be one of sklearn:{', sklearn:'.join(BUNDLED)}, got {path!r}")
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    columns = {str(n): bunch.data[:, i] for i, n in enumerate(bunch.feature_names)}
    return pa.table({**columns, "target": bunch.target})
