"""The roles of a table's columns (label or feature), and the name of each in errors. The same for every reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from optuna_spark.data.files.columns import default_label, shortened
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec

MIN_ROWS = 4


@dataclass(frozen=True)
class ColumnRoles:
    """The columns of a table to train on.

    Attributes:
        label: The column to predict.
        label_words: The label's name in errors.
        features: All other columns in their order, and the name of each in errors.
        test: The column that says which rows are test rows, which is no feature; None without one.
    """

    label: str
    label_words: str
    features: Mapping[str, str]
    test: str | None = None


def column_roles(schema: pa.Schema, n_rows: int, data: DataSpec) -> ColumnRoles:
    """The roles of a table's columns.

    Raises:
        DataError: There are too few rows or columns, or no column with the label's name.
    """
    label = label_name(schema, data)
    if n_rows < MIN_ROWS:
        raise DataError(f"the table {data.location} must have at least {MIN_ROWS} rows, got {n_rows}: check data.path")
    words = {name: _words(name, number, data) for number, name in enumerate(schema.names, 1)}
    test = _test_column(schema.names, label, data)
    features = {name: words[name] for name in schema.names if name not in (label, test)}
    return ColumnRoles(label, words[label], features, test)


def label_name(schema: pa.Schema, data: DataSpec) -> str:
    """The column to predict: the one that is named, else the last one that no folder gives.

    Raises:
        DataError: There is no such column, or no column besides it.
    """
    names = schema.names
    label = default_label(schema, data) if data.label is None else data.label
    if label is None or (label not in names and len(names) > 1):
        given = repr(data.label) if data.label is not None else "(the last column of the files)"
        has = f": {shortened(names)}" if data.names_in_errors else f" {len(names)} columns"
        raise DataError(f"data.label {given} names no column; the table {data.location} has{has}")
    if len(names) < 2:
        raise DataError(_too_few(len(names), data))
    return label


def _test_column(names: Sequence[str], label: str, data: DataSpec) -> str | None:
    column = data.test_column
    if column is None:
        return None
    if column not in names or column == label:
        what = "is the label" if column == label else "is no column of the table"
        raise DataError(f"data.test.column {column!r} {what}: name the column that is true for test rows")
    if len(names) < 3:
        raise DataError("the table needs at least one column beside the label and data.test.column: add a feature")
    return column


def _too_few(n_columns: int, data: DataSpec) -> str:
    if data.columns.drop or data.columns.keep:
        return f"data.columns leaves no feature of the table {data.location}: drop fewer columns, or keep more"
    return (
        f"the table {data.location} needs a label and at least one more column, got {n_columns}: if it is CSV whose"
        f" columns are not separated by {data.separator!r}, say by what in data.separator"
    )


def _words(name: str, number: int, data: DataSpec) -> str:
    """What errors call a column: its name, or its number if errors may not quote the file."""
    return f"column {name!r} of {data.location}" if data.names_in_errors else f"column {number} of {data.location}"
