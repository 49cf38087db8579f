"""Reading a training table with Arrow: whole, or a few columns at a time where the format allows it."""

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
    """A table whose columns can be had a few at a time; an Arrow table is one."""

    @property
    def column_names(self) -> list[str]: ...

    @property
    def num_rows(self) -> int: ...

    def select(self, columns: Sequence[str]) -> pa.Table: ...


class ParquetColumns:
    """A Parquet file, or a folder of them, that is read when columns are selected.

    So a table is never in memory beside the matrix that is made from it.

    Raises:
        DataError: It cannot be read.
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
        """The columns, read now.

        Raises:
            DataError: They cannot be read.
        """
        try:
            return self._files.read(columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise unreadable(self._path, "parquet", error) from None


def open_table(data: DataSpec, path: Path) -> Columns:
    """A CSV file, read whole, or a Parquet file (or a folder of them), read when columns are selected.

    Raises:
        DataError: The file cannot be read as that format.
    """
    if data.format_of(str(path), is_folder=path.is_dir()) == "parquet":
        return ParquetColumns(path)
    parse = pa.csv.ParseOptions(delimiter=data.separator)
    convert = pa.csv.ConvertOptions(strings_can_be_null=True)  # an empty text is a missing label
    try:
        table: Columns = pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
        _ = table.column_names  # Arrow decodes them only when asked
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(path, "csv", error) from None
    return table


def bundled_table(path: str) -> Columns:
    """A table that comes with scikit-learn; its label is the last column, `target`."""
    import sklearn.datasets

    name = path.removeprefix("sklearn:")
    if name not in BUNDLED:
        raise DataError(f"data.path must be one of sklearn:{', sklearn:'.join(BUNDLED)}, got {path!r}")
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    columns = {str(n): bunch.data[:, i] for i, n in enumerate(bunch.feature_names)}
    table: Columns = pa.table({**columns, "target": bunch.target})
    return table
