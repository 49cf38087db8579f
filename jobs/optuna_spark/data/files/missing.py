"""Words that mean a value is missing, in tables whose format has types and so a null of its own."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from optuna_spark.spec.data import DataSpec


def without_missing_words(table: pa.Table, data: DataSpec) -> pa.Table:
    """The table with null for each value that `data.missing` lists: texts as they are, numbers by their value."""
    for i, field in enumerate(table.schema if data.missing else ()):
        words = _words_as(field.type, data.missing or ())
        if words is not None and len(words):
            column = table.column(i)
            values = column.cast(field.type.value_type) if pa.types.is_dictionary(field.type) else column
            is_word = pc.is_in(values, value_set=words)
            table = table.set_column(i, field, pc.if_else(is_word, pa.scalar(None, field.type), column))
    return table


def _words_as(kind: pa.DataType, words: tuple[str, ...]) -> pa.Array | None:
    """The words that a column of this type can hold."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind):
        return pa.array(words, kind)
    if types.is_integer(kind) or types.is_floating(kind):
        numbers = [number for number in map(_number, words) if number is not None]
        whole = types.is_integer(kind)
        return pa.array([n for n in numbers if not whole or _fits(n, kind)], pa.float64()).cast(kind)
    return None


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _fits(number: float, kind: pa.DataType) -> bool:
    try:
        pa.scalar(number).cast(kind)
    except pa.ArrowException:
        return False
    return True
