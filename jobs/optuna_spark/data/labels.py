"""The label column as XGBoost wants it: numbers for regression, classes 0..k-1 for classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optuna_spark.data.matrix import Floats, check_exact, check_finite, check_numeric, count_missing, numbers
from optuna_spark.errors import DataError

MAX_CLASSES = 1000


@dataclass(frozen=True)
class Labels:
    """The label column.

    Attributes:
        values: (n_rows,) float32; for classification the index of each row's class in `classes`.
        classes: The distinct values of the label, sorted; empty for regression.
    """

    values: Floats
    classes: tuple[Any, ...] = ()


def encode_labels(column: pa.ChunkedArray, words: str, task: str) -> Labels:
    """Check and convert the label column.

    Args:
        column: The column, (n_rows,) of any type.
        words: The column's name in errors.
        task: regression, binary or multiclass.

    Raises:
        DataError: A label is missing or infinite, is not a number in a regression, or there are too few or too many
            classes.
    """
    _check_missing(column, words)
    if task == "regression":
        return Labels(_regression_values(column, f"label {words}"))
    return _encode_classes(column, words, task)


def _check_missing(column: pa.ChunkedArray, words: str) -> None:
    n_missing, first = count_missing(column)
    if n_missing == len(column):
        raise DataError(
            f"label {words} holds no value in any of its {n_missing} rows: name another column in data.label"
        )
    if n_missing:
        raise DataError(
            f"label {words} must hold a value in every row, got {n_missing} empty or NaN (first in row {first}):"
            " remove these rows, or set data.missing: [] if a word such as NA is a class"
        )


def _regression_values(column: pa.ChunkedArray, words: str) -> Floats:
    check_numeric(column, words)
    check_exact(column, words)
    values: Floats = numbers(column).to_numpy()
    check_finite(words, int(np.isinf(values).sum()))
    if (values == values[0]).all():
        raise DataError(f"{words} holds the same number in every row: name another column in data.label")
    return values


def _encode_classes(column: pa.ChunkedArray, words: str, task: str) -> Labels:
    if pa.types.is_dictionary(column.type):  # the steps below need plain values
        column = column.cast(column.type.value_type)
    classes = pc.unique(column)
    classes = classes.take(pc.sort_indices(classes))
    _check_classes(len(classes), words, task)
    codes = pc.index_in(column, value_set=classes)
    return Labels(codes.to_numpy().astype(np.float32), tuple(classes.to_pylist()))


def _check_classes(n: int, words: str, task: str) -> None:
    if n < 2:
        raise DataError(f"label {words} must hold at least 2 classes, got {n}: check data.label")
    if task == "binary" and n != 2:
        raise DataError(f"label {words} must hold 2 classes for task binary, got {n}: set xgboost.task to multiclass")
    if n > MAX_CLASSES:
        raise DataError(
            f"label {words} must hold at most {MAX_CLASSES} classes, got {n}: set xgboost.task to regression"
        )
