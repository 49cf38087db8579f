"""Columns that hold no numbers, as numbers: texts become the codes of categories, dates and times become days.

Codes follow from the values alone, sorted: so a value has the same code on every worker, device and distribution, and
whether the file is CSV or Parquet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from optuna_spark.data.files.columns import matching
from optuna_spark.data.matrix import FEATURE_STEP, is_number, not_numbers
from optuna_spark.errors import DataError
from optuna_spark.spec.data import AUTO, DataSpec

# Texts are taken for categories if they are at most MAX_TEXTS different ones, and repeat if they are above FEW_TEXTS.
MAX_TEXTS = 1000
FEW_TEXTS = 100
# From here on, float32 and XGBoost cannot tell codes apart:
# https://xgboost.readthedocs.io/en/release_3.2.0/tutorials/categorical.html
MAX_CODES = 1 << 24
_SAMPLE = 1000
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


class Encoder:
    """Makes numbers of a table's features, a few columns at a time.

    Attributes:
        columns: The features that are categories.
        categories: Of each of them that was encoded and holds a value: the distinct values, sorted. A value's index is
            its code. They are str, int, float or bool; those of dates are texts.
    """

    def __init__(self, schema: pa.Schema, words: Mapping[str, str], data: DataSpec) -> None:
        """Choose the columns that are categories.

        Args:
            schema: The columns of the table.
            words: The features, and the name of each in errors.
            data: Says which are categories.

        Raises:
            DataError: `data.categorical` names no feature.
        """
        self.columns = _chosen(schema, words, data)
        self.categories: dict[str, tuple[Any, ...]] = {}
        self._words = words
        self._limited = data.categorical == AUTO

    def __call__(self, table: pa.Table) -> pa.Table:
        """The same columns, with codes (int32) for categories and days (double) for dates and times.

        Raises:
            DataError: A column has too many values for categories, or values that cannot be some.
        """
        for i, name in enumerate(table.column_names):
            column = table.column(i)
            if name in self.columns:
                table = table.set_column(i, name, self._coded(name, column))
            elif _is_time(column.type):
                table = table.set_column(i, name, days(column))
        return table

    def _coded(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        words, plain = self._words[name], _plain(column, self._words[name])
        values = pc.unique(plain).drop_null()
        if not len(values):
            return pa.chunked_array([pa.nulls(len(column))])
        values = values.take(pc.sort_indices(values))
        if self._limited:
            if not pa.types.is_dictionary(column.type):
                _check_texts(column, values, words)
            _check_repeated(len(values), len(column), words)
        elif len(values) > MAX_CODES:
            raise DataError(f"{words} must have at most {MAX_CODES} categories, got {len(values)}: {LEAVE_OUT}")
        self.categories[name] = tuple(values.to_pylist())
        return pc.index_in(plain, value_set=values)


LEAVE_OUT = "leave it out with data.columns: {drop: [...]}"


def days(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates and moments as days since 1970-01-01 UTC, times of day and durations as days; double, with fractions."""
    kind = column.type
    if pa.types.is_date32(kind):
        return column.cast(pa.int32()).cast(pa.float64())
    counts = column.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64())
    per_day = _PER_DAY["ms" if pa.types.is_date64(kind) else kind.unit]
    return pc.divide(counts.cast(pa.float64(), safe=False), float(per_day))


def _chosen(schema: pa.Schema, words: Mapping[str, str], data: DataSpec) -> frozenset[str]:
    if data.categorical is None:
        return frozenset()
    if data.categorical == AUTO:
        return frozenset(name for name in words if _is_text(schema.field(name).type))
    return frozenset(matching(list(words), data.categorical, "data.categorical", data, what="feature"))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_temporal(kind) and not pa.types.is_interval(kind))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind))


def _plain(column: pa.ChunkedArray, words: str) -> pa.ChunkedArray:
    """The values as texts, whole or floating numbers or booleans; missing ones as null."""
    types = pa.types
    if types.is_dictionary(column.type):  # each piece may have a dictionary of its own
        column = column.cast(column.type.value_type)
    kind = column.type
    if _is_time(kind):
        return column.cast(pa.string())
    if types.is_decimal(kind):
        return column.cast(pa.float64())
    if types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    if not (_is_text(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_null(kind)):
        got = str(kind).partition("<")[0]
        raise DataError(f"{words} must hold texts, numbers or dates to be categories, got type {got}: {LEAVE_OUT}")
    return column


def _check_texts(column: pa.ChunkedArray, values: pa.Array, words: str) -> None:
    """Refuse texts that are mostly numbers: a slip in one row, mostly, and not a column of categories."""
    some = values.take(pa.array(range(0, len(values), max(1, len(values) // _SAMPLE)))).to_pylist()
    if sum(map(is_number, some)) * 2 > len(some):
        raise DataError(not_numbers(column, words, FEATURE_STEP))


def _check_repeated(n: int, n_rows: int, words: str) -> None:
    if n > MAX_TEXTS or (n > FEW_TEXTS and 2 * n > n_rows):
        raise DataError(
            f"{words} holds {n} different texts in {n_rows} rows; categories are at most {MAX_TEXTS:,}, and beyond"
            f" {FEW_TEXTS} at most half as many as rows: {LEAVE_OUT}, or name it in data.categorical"
        )
