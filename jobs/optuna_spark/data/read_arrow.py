"""Reads a training table with Arrow: whole, or a few columns at a time if the format allows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from optuna_spark.data.reader_errors import unreadable
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")


class Columns(Protocol):
    """A table that gives a few columns at a time. An Arrow table is one."""

    @property
    def column_names(self) -> list[str]: ...

    @property
    def num_rows(self) -> int: ...

    def select(self, columns: Sequence[str]) -> pa.Table: ...


class ParquetColumns:
    """A Parquet file, or a folder of them, that is read only when columns are selected.

    So the whole table is never in memory beside the matrix that is made from it.

    Raises:
        DataError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._files = pa.parquet.ParquetDataset(path)
            self.column_names: list[str] = self._files.schema.names
            self.num_rows = sum(int(file.count_rows()) for file in self._files.fragments)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(path, "parquet", error) from None

    def select(self, columns: Sequence[str]) -> pa.Table:
        """Read these columns.

        Raises:
            DataError: They cannot be read.
        """
        try:
            return self._files.read(columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise unreadable(self._path, "parquet", error) from None


def open_table(data: DataSpec, path: Path) -> Columns:
    """Open a table: a CSV file is read whole now, Parquet is read when columns are selected.

    Raises:
        DataError: The file cannot be read as that format.
    """
    if data.format_of(str(path), is_folder=path.is_dir()) == "parquet":
        return ParquetColumns(path)
    parse = pa.csv.ParseOptions(delimiter=data.separator)
    convert = pa.csv.ConvertOptions(strings_can_be_null=True)  # an empty label of text counts as missing
    try:
        table: Columns = pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
        _ = table.column_names  # decodes the names here, where an error of that can be caught
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, "csv", error) from None
    return table


def bundled_table(path: str) -> Columns:
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
    table: Columns = pa.table({**columns, "target": bunch.target})
    return table
