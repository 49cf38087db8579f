"""What columns of a table say of its rows: weights, groups, times, and sides of the split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from optuna_spark.data.matrix import check_numeric, count_missing
from optuna_spark.errors import DataError

TRAINS_ONLY = -1  # the fold of rows that validate in none
SIDES = {"train": TRAINS_ONLY, "validation": 0}
MAX_FOLDS = 1000


@dataclass(frozen=True, eq=False)
class RowRoles:
    """What is known of each row beside its features and its label; None where no column says it.

    Attributes:
        weights: (n_rows,) float64, finite, at least 0, not all 0.
        groups: (n_rows,) uint64, equal for rows of one group. It depends on the group's value alone.
        times: (n_rows,) intp, in the order of the times: 0 for the earliest one.
        folds: (n_rows,) intp, the number of the fold that validates on the row, counted from 0; TRAINS_ONLY for none.
        words: What errors call each column, by its key, such as `validation.time`.
    """

    weights: npt.NDArray[np.float64] | None = None
    groups: npt.NDArray[np.uint64] | None = None
    times: npt.NDArray[np.intp] | None = None
    folds: npt.NDArray[np.intp] | None = None
    words: Mapping[str, str] | None = None

    def called(self, key: str) -> str:
        """A key and its column, as errors name them."""
        return f"{key}: {(self.words or {}).get(key, 'the column')}"


def read_rows(columns: Mapping[str, pa.ChunkedArray], words: Mapping[str, str]) -> RowRoles:
    """Check and convert the columns that say something of rows.

    Args:
        columns: Each column, (n_rows,), by the key that names it.
        words: What errors call each column, by the same keys.

    Raises:
        DataError: A value is missing, or is none of the kind that the key wants.
    """
    found: dict[str, Any] = {}
    for key, column in columns.items():
        called = f"{key}: {words[key]}"
        _check_missing(column, called)
        name, read = _READERS[key]
        found[name] = read(_plain(column), called)
    return RowRoles(**found, words=dict(words))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with a type that Arrow can sort, if there is one."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.string() if pa.types.is_string_view(kind) else kind)


def _check_missing(column: pa.ChunkedArray, called: str) -> None:
    n_missing, first = count_missing(column)
    if n_missing:
        raise DataError(
            f"{called} must hold a value in every row, got {n_missing} empty or NaN (first in row {first}): fill them,"
            " or remove these rows"
        )


def _weights(column: pa.ChunkedArray, called: str) -> npt.NDArray[np.float64]:
    check_numeric(column, called)
    plain = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
    weights: npt.NDArray[np.float64] = plain.cast(pa.float64(), safe=False).to_numpy()
    wrong = ~((weights >= 0) & (weights < np.finfo(np.float32).max))
    if wrong.any():
        raise DataError(
            f"{called} must hold finite weights of at least 0, got {int(wrong.sum())} that are not (first in row"
            f" {int(np.argmax(wrong)) + 1}): give a row that is to count for nothing 0"
        )
    if not weights.any():
        raise DataError(f"{called} must hold a weight above 0, got 0 in every row: name another column")
    return weights


def _groups(column: pa.ChunkedArray, called: str) -> npt.NDArray[np.uint64]:
    values, ranks = _ranked(column, called, "name a column of texts, whole numbers or dates")
    # Arrow's own text of a value: Python has none for times in nanoseconds.
    texts = values if pa.types.is_binary(values.type) else values.cast(pa.string()).cast(pa.binary())
    digests = [hashlib.blake2b(text, digest_size=8).digest() for text in texts.to_pylist()]
    hashes: npt.NDArray[np.uint64] = np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
    return hashes[ranks]


def _times(column: pa.ChunkedArray, called: str) -> npt.NDArray[np.intp]:
    kind, types = column.type, pa.types
    if not (
        types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_temporal(kind)
    ) or types.is_interval(kind):
        raise DataError(
            f"{called} must hold times or numbers to sort by, got values of type {_kind(column)}: write times as"
            " 2024-01-31 or 2024-01-31T12:00:00"
        )
    return _ranked(column, called, "name a column of times or numbers")[1]


def _folds(column: pa.ChunkedArray, called: str) -> npt.NDArray[np.intp]:
    if pa.types.is_integer(column.type):
        values, ranks = _ranked(column, called, "")
        numbers = values.to_pylist()
        if numbers[0] < TRAINS_ONLY or numbers[-1] >= MAX_FOLDS:
            raise DataError(
                f"{called} must hold numbers of folds from 0 to {MAX_FOLDS - 1}, or -1 for rows that only train, got"
                " others: name another column"
            )
        first = sum(number == TRAINS_ONLY for number in numbers)
        folds: npt.NDArray[np.intp] = ranks - first  # without a gap: each number that is there is a fold
        return folds
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        sides = pa.array(SIDES, pa.string())
        found = pc.index_in(column.cast(pa.string()), value_set=sides)
        if found.null_count:
            row = pc.index(pc.is_null(found), True).as_py() + 1
            raise DataError(
                f"{called} must hold train or validation, or numbers of folds, got another text in row {row}: write"
                " one of these"
            )
        places: npt.NDArray[np.intp] = found.to_numpy().astype(np.intp)
        return np.array(list(SIDES.values()), np.intp)[places]
    raise DataError(
        f"{called} must hold train or validation, or whole numbers of folds, got values of type {_kind(column)}:"
        " convert it"
    )


def _ranked(column: pa.ChunkedArray, called: str, instead: str) -> tuple[pa.Array, npt.NDArray[np.intp]]:
    """The distinct values in order, and the place of each row's value among them."""
    try:
        values = pc.unique(column)
        values = values.take(pc.sort_indices(values))
        ranks = pc.index_in(column, value_set=values)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise DataError(f"{called} holds values of type {_kind(column)}, which have no order: {instead}") from None
    return values, ranks.to_numpy().astype(np.intp)


def _kind(column: pa.ChunkedArray) -> str:
    return str(column.type).partition("<")[0]  # not the fields of a nested type: those are the file's content


_READERS: Mapping[str, tuple[str, Any]] = {
    "data.weight": ("weights", _weights),
    "validation.group": ("groups", _groups),
    "validation.time": ("times", _times),
    "validation.split": ("folds", _folds),
}
