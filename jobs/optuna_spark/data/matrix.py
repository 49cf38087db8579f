"""Turns the columns of a table into one matrix of numbers, and says what is wrong with columns that are not numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from optuna_spark.data.files.columns import Columns
from optuna_spark.errors import DataError

Floats = npt.NDArray[np.float32]
# Arrow stores columns, the matrix rows. A block of this many rows and 100 columns fits into a core's cache meanwhile.
_BLOCK_ROWS = 1 << 13
FEATURE_STEP = (
    "correct the value, add it to data.missing, leave the column out with data.columns: {drop: [...]}, or name it in"
    " data.categorical"
)
EXACT = 2**53  # up to here each whole number is a double of its own
_GROUP_BYTES = 64 << 20  # how much of the table is in memory beside the matrix


def to_matrix(
    table: Columns, words: Mapping[str, str], as_numbers: Callable[[pa.Table], pa.Table] = lambda table: table
) -> Floats:
    """Columns of a table as one array, (n_rows, n_columns) float32 in C order. Missing values are NaN.

    Args:
        table: The table.
        words: The columns to take, and the name of each in errors.
        as_numbers: Makes numbers of columns that hold others; it gets a few whole columns at a time.

    Raises:
        DataError: A column then holds a value that is neither missing nor a finite number.
    """
    matrix = np.empty((table.num_rows, len(words)), dtype=np.float32)
    for start, group in _groups(list(words), table.num_rows):
        _fill(matrix[:, start : start + len(group)], as_numbers(table.select(group)), words)
    # Arrow keeps freed memory for its next table, but there is none.
    pa.default_memory_pool().release_unused()
    return matrix


def _groups(names: Sequence[str], n_rows: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Groups of names whose columns (8 bytes a value) fit into _GROUP_BYTES, each with the index of its first name."""
    size = max(1, _GROUP_BYTES // (8 * max(n_rows, 1)))
    for start in range(0, len(names), size):
        yield start, names[start : start + size]


def _fill(matrix: Floats, table: pa.Table, words: Mapping[str, str]) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        check_numeric(column, words[name], FEATURE_STEP)
        check_exact(column, words[name])
    n_infinite = np.zeros(table.num_columns, dtype=np.intp)
    row = 0
    for batch in table.to_batches(max_chunksize=_BLOCK_ROWS):
        block = matrix[row : row + batch.num_rows]
        for i, column in enumerate(batch.columns):
            block[:, i] = numbers(column).to_numpy(zero_copy_only=False)
        n_infinite += np.isinf(block).sum(axis=0)
        row += batch.num_rows
    for name, n in zip(table.column_names, n_infinite, strict=True):
        check_finite(words[name], int(n))


def check_numeric(
    column: pa.ChunkedArray, words: str, next_step: str = "convert the column to numbers or remove it"
) -> None:
    """Refuse a column of text, dates or anything else that is not a number.

    Raises:
        DataError: The column is not numeric. The error names the first row that is not, and the type of its value.
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
        raise DataError(not_numbers(column, words, next_step))


def check_exact(column: pa.ChunkedArray, words: str) -> None:
    """Refuse whole numbers that no floating one can tell apart: numbers of rows, mostly, that somebody gave them.

    Raises:
        DataError: Names the first row with one.
    """
    if not pa.types.is_integer(column.type) or column.type.bit_width < 64:
        return
    bounds = pc.min_max(column)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is not None and (low < -EXACT or high > EXACT):
        beyond = pc.greater(column, pa.scalar(EXACT, column.type))
        if low < 0:
            beyond = pc.or_(beyond, pc.less(column, pa.scalar(-EXACT, column.type)))
        raise DataError(not_exact(words, pc.index(beyond, True).as_py() + 1))


def not_exact(words: str, row: int | None = None) -> str:
    """The sentence for a column with such numbers."""
    place = f" (first in row {row})" if row is not None else ""
    return (
        f"{words} holds whole numbers beyond 2^53{place}, which a model cannot tell apart: leave the column out with"
        " data.columns: {drop: [...]}, or convert it"
    )


def numbers(column: Any) -> Any:
    """An Arrow array or chunked array of numbers, cast to float32."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return column.cast(pa.float32(), safe=False)


def check_finite(words: str, n_infinite: int) -> None:
    """Refuse infinite values, which XGBoost cannot train on."""
    if n_infinite:
        raise DataError(
            f"{words} must hold finite numbers, got {n_infinite} infinite (or too large for float32):"
            " leave them empty or clip them"
        )


def not_numbers(column: pa.ChunkedArray, words: str, next_step: str) -> str:
    """The sentence for a column with values that are no numbers. It names the first row with one."""
    row, value = next(((i, v) for i, v in enumerate(_values(column), 1) if not is_number(v)), (1, None))
    if value is None:  # all values look like numbers, but the type is text: name the first value
        row, value = next(((i, v) for i, v in enumerate(_values(column), 1) if v is not None), (1, None))
    # Name neither the value nor the fields of a nested type: errors quote nothing that is in a file.
    kind = str(column.type).partition("<")[0]
    return f"{words} must hold numbers, got a value of type {kind} in row {row} ({type(value).__name__}): {next_step}"


def _values(column: pa.ChunkedArray) -> Any:
    return (value.as_py() for value in column)


def is_number(value: object) -> bool:
    """Whether a value of a column is missing, a number, or the text of one."""
    if value is None:
        return True
    try:
        float(value)  # type: ignore[arg-type]  # anything may stand in a column
    except (TypeError, ValueError):
        return False
    return True


def count_missing(column: pa.ChunkedArray) -> tuple[int, int]:
    """How many values are null or NaN, and the row (from 1) of the first; 0 if there is none."""
    missing = pc.is_null(column, nan_is_null=True)
    n_missing = pc.sum(missing).as_py() or 0
    return n_missing, (pc.index(missing, True).as_py() + 1 if n_missing else 0)
