"""Which rows of a table are test rows: no trial sees them, and only the final model is scored on them.

By share, that depends on the content of the row's features alone: not on the seed, the order or the other rows. So a
test row stays one when the table grows, and of two shares the greater has all test rows of the smaller.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from optuna_spark.data.column_roles import column_roles
from optuna_spark.data.dataset import Dataset, host
from optuna_spark.data.matrix import count_missing, numbers
from optuna_spark.data.split import Hashes, mixed, row_hashes, start_hash
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec, TestColumn

Mask = npt.NDArray[np.bool_]
# Keeps this choice apart from that of validation rows, which is made from the same hashes. Any number would do.
_SALT = np.uint64(0x5DEECE66D1CE4E5B)


def with_test_rows(dataset: Dataset, data: DataSpec, column: pa.ChunkedArray | None) -> Dataset:
    """The dataset that knows its test rows, if the study has any.

    Args:
        dataset: The whole table.
        data: What the study says of it.
        column: The column of `data.test.column`, which is no feature; None where a share decides.

    Raises:
        DataError: The column holds something else than true and false, or one of both parts is empty.
    """
    if data.test is None:
        return dataset
    if isinstance(data.test, float):
        mask = by_share(dataset_hashes(dataset), data.test)
    else:
        assert column is not None  # the reader found it, see column_roles
        mask = by_column(column, data)
    return dataclasses.replace(dataset, test=_checked(mask, data))


def training_part(table: pa.Table, data: DataSpec) -> pa.Table:
    """The rows of a table of any types that trials may see; with `data.test.column` also without that column.

    Raises:
        DataError: As `with_test_rows`; or a share is to decide, and a feature has values without a content to hash.
    """
    return table if data.test is None else both_parts(table, data)[0]


def both_parts(table: pa.Table, data: DataSpec) -> tuple[pa.Table, pa.Table | None]:
    """The training rows and the test rows of a table of any types, in their order. No test rows are None.

    Raises:
        DataError: As `training_part`.
    """
    if data.test is None:
        return table, None
    roles = column_roles(table.schema, table.num_rows, data)
    if isinstance(data.test, float):
        mask = by_share(table_hashes(table, list(roles.features)), data.test)
    else:
        mask = by_column(table.column(data.test.column), data)
        table = table.drop_columns([data.test.column])
    mask = _checked(mask, data)
    return table.filter(pa.array(~mask)), table.filter(pa.array(mask))


def by_share(hashes: Hashes, share: float) -> Mask:
    """Whether each row is a test row, (n_rows,), for about `share` of all possible contents."""
    return mixed(hashes ^ _SALT) < np.uint64(min(int(share * 2.0**64), 2**64 - 1))


def by_column(column: pa.ChunkedArray, data: DataSpec) -> Mask:
    """Whether each row is a test row, (n_rows,): true or 1 in the column that the study file names.

    Raises:
        DataError: It holds something else than true and false, or 1 and 0.
    """
    words = f"column {data.test.column!r}" if isinstance(data.test, TestColumn) else "column"
    plain = pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)
    values = column.cast(pa.int64()).to_numpy() if plain and not count_missing(column)[0] else np.array([2])
    if not np.isin(values, (0, 1)).all():
        raise DataError(
            f"data.test: {words} must hold true or false (or 1 or 0) in every row, true for a test row, got something"
            " else: correct the column"
        )
    return np.asarray(values == 1)


def dataset_hashes(dataset: Dataset) -> Hashes:
    """One number per row, (n_rows,) uint64, of the features' content: of a category its value, whatever its code.

    A category's code changes when the table grows by another category.
    """
    if not dataset.categories:
        return row_hashes(dataset.features)
    state = start_hash(dataset.n_rows)
    for index, name in enumerate(dataset.names):
        column = host(dataset.features[:, index])
        values = dataset.categories.get(name)
        state = mixed(state ^ (_float_bits(column) if values is None else _hashes_of_codes(column, values)))
    return state


def _hashes_of_codes(codes: Any, values: Sequence[Any]) -> npt.NDArray[np.uint64]:
    of_each = np.array([_hash_of(value) for value in (*values, None)], dtype=np.uint64)
    return np.asarray(of_each[np.where(np.isnan(codes), len(values), codes).astype(np.intp)])


def table_hashes(table: pa.Table, names: Sequence[str]) -> Hashes:
    """One number per row, (n_rows,) uint64, of these columns; of numbers alone the same as `split.row_hashes`.

    Args:
        table: The table.
        names: The columns, of numbers, texts, bytes, days or times.

    Raises:
        DataError: A column is of another type, such as a list.
    """
    state = start_hash(table.num_rows)
    for position, name in enumerate(names, 1):
        for words in _words_of(table.column(name), position):
            state = mixed(state ^ words)
    return state


def _words_of(column: pa.ChunkedArray, position: int) -> Sequence[npt.NDArray[Any]]:
    """The content of a column as arrays of whole numbers, (n_rows,) each."""
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        return _words_of(column.cast(kind.value_type), position)
    if types.is_temporal(kind) and not types.is_duration(kind):
        column = column.cast(pa.timestamp("us"), safe=False) if not types.is_time(kind) else column.cast(pa.string())
        kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_timestamp(kind):
        return [_hashes_of_values(column)]
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        return [_float_bits(numbers(column).to_numpy())]
    if types.is_null(kind):
        return [_float_bits(np.full(len(column), np.nan, np.float32))]
    raise DataError(
        f"data.test as a share needs features of numbers, texts or times, got type {str(kind).partition('<')[0]} in"
        f" feature {position}: name a column that says which rows are test rows, test: {{column: ...}}"
    )


def _float_bits(values: Any) -> npt.NDArray[np.uint32]:
    block = values.astype(np.float32) + np.float32(0)  # as split.row_hashes: -0.0 becomes 0.0, one pattern for NaN
    block[np.isnan(block)] = np.nan
    return np.asarray(block.view(np.uint32))


def _hashes_of_values(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    distinct = pc.unique(column)
    of_each = np.array([_hash_of(value) for value in distinct.to_pylist()], dtype=np.uint64)
    return np.asarray(of_each[pc.index_in(column, value_set=distinct).to_numpy()])


def _hash_of(value: str | bytes | float | None) -> int:
    content = value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, person=str(value is None).encode()).digest(), "big")


def _checked(mask: Mask, data: DataSpec) -> Mask:
    if mask.all() or not mask.any():
        part = "no row to train on" if mask.all() else "no test row"
        rule = f"{data.test:g}" if isinstance(data.test, float) else "its column"
        raise DataError(f"data.test {rule} leaves {part} of {len(mask)} rows: give another share, or more data")
    return mask
