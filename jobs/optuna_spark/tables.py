"""Reading a training table with Arrow, and turning its columns into numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from optuna_spark.errors import DataError
from optuna_spark.spec import DataSpec

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
_FORMATS = ("csv", "parquet")
_BLOCK_ROWS = 1 << 13  # rows of a block of 100 columns fit into a core's cache, where columns become rows
Floats = npt.NDArray[np.float32]


def file_format(data: DataSpec, path: Path) -> str:
    """Which of csv and parquet: what the spec says, else what the ending says."""
    if data.format is not None:
        if data.format not in _FORMATS:
            raise DataError(
                f"data.format must be csv or parquet, got {data.format!r}; other formats need distribution dataframe"
            )
        return data.format
    return "parquet" if path.is_dir() or path.suffix in (".parquet", ".pq") else "csv"


def read_table(data: DataSpec, path: Path) -> pa.Table:
    """Read a CSV or Parquet file (or a folder of Parquet files).

    Raises:
        DataError: The file cannot be read as that format, or holds no rows.
    """
    try:
        if file_format(data, path) == "parquet":
            table = pa.parquet.read_table(path)
        else:
            parse = pa.csv.ParseOptions(delimiter=data.separator)
            convert = pa.csv.ConvertOptions(strings_can_be_null=True)  # an empty text is a missing label
            table = pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path} as {file_format(data, path)}: {_one_line(error)}") from error
    return table


def bundled_table(path: str) -> pa.Table:
    """A table that comes with scikit-learn; its label is the last column, `target`."""
    import sklearn.datasets

    name = path.removeprefix("sklearn:")
    if name not in BUNDLED:
        raise DataError(f"data.path must be one of sklearn:{', sklearn:'.join(BUNDLED)}, got {path!r}")
    bunch = getattr(sklearn.datasets, f"load_{name}")()
    columns = {str(n): bunch.data[:, i] for i, n in enumerate(bunch.feature_names)}
    return pa.table({**columns, "target": bunch.target})


def label_name(table_columns: list[str], data: DataSpec) -> str:
    """The column to predict.

    Raises:
        DataError: There is no such column, or nothing else than it.
    """
    if len(table_columns) < 2:
        raise DataError(
            f"the table needs a label and at least one more column, got {table_columns}: is data.separator"
            f" {data.separator!r} right?"
        )
    label = table_columns[-1] if data.label is None else data.label
    if table_columns.count(label) != 1:
        found = "no" if label not in table_columns else "more than one"
        raise DataError(f"data.label {label!r} names {found} column; the table has: {_shortened(table_columns)}")
    return label


def to_matrix(table: pa.Table) -> Floats:
    """The table's columns as one array, (n_rows, n_columns) float32, row by row; missing values are NaN.

    Raises:
        DataError: A column holds something else than finite or missing numbers.
    """
    for name in table.column_names:
        check_numeric(table.column(name), name)
    matrix = np.empty((table.num_rows, table.num_columns), dtype=np.float32)
    n_infinite = np.zeros(table.num_columns, dtype=np.intp)
    row = 0
    for batch in table.to_batches(max_chunksize=_BLOCK_ROWS):
        block = matrix[row : row + batch.num_rows]
        for i, column in enumerate(batch.columns):
            block[:, i] = numbers(column).to_numpy(zero_copy_only=False)
        n_infinite += np.isinf(block).sum(axis=0)
        row += batch.num_rows
    for name, n in zip(table.column_names, n_infinite, strict=True):
        check_finite(name, int(n))
    return matrix


def check_numeric(column: pa.ChunkedArray, name: str) -> None:
    """Refuse a column of text, dates or anything else that is not a number.

    Raises:
        DataError: It names the first such value and its row.
    """
    kind = column.type
    types = pa.types
    if not (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    ):
        raise DataError(_not_numbers(column, name))


def numbers(column: Any) -> Any:
    """An Arrow array or chunked array of numbers, cast to float32."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return column.cast(pa.float32(), safe=False)


def check_finite(name: str, n_infinite: int) -> None:
    """Refuse infinite values, which XGBoost cannot train on."""
    if n_infinite:
        raise DataError(
            f"column {name!r} must hold finite numbers, got {n_infinite} infinite (or too large for float32):"
            " leave them empty or clip them"
        )


def _not_numbers(column: pa.ChunkedArray, name: str) -> str:
    row, value = next(((i, v) for i, v in enumerate(_values(column), 1) if not _is_number(v)), (1, None))
    if value is None:
        row, value = next(((i, v) for i, v in enumerate(_values(column), 1) if v is not None), (1, None))
    return (
        f"column {name!r} must hold numbers, got {value!r} in row {row} (type {column.type}):"
        " convert the column to numbers or remove it"
    )


def _values(column: pa.ChunkedArray) -> Any:
    return (value.as_py() for value in column)


def _is_number(value: object) -> bool:
    if value is None:
        return True
    try:
        float(value)  # type: ignore[arg-type]  # anything may stand in a column
    except (TypeError, ValueError):
        return False
    return True


def count_missing(column: pa.ChunkedArray) -> tuple[int, int]:
    """How many values are null or NaN, and the row (from 1) of the first."""
    missing = pc.is_null(column, nan_is_null=True)
    n_missing = pc.sum(missing).as_py() or 0
    return n_missing, (pc.index(missing, True).as_py() + 1 if n_missing else 0)


def _shortened(names: list[str], limit: int = 30) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
