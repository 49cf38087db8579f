"""The roles of a table's columns (label or feature), and the name of each in errors. The same for every reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec, TestColumn

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


def column_roles(names: Sequence[str], n_rows: int, data: DataSpec) -> ColumnRoles:
    """The roles of a table's columns.

    Raises:
        DataError: There are too few rows or columns, no column with the label's name, or two columns of one name.
    """
    if n_rows < MIN_ROWS:
        raise DataError(f"the table must have at least {MIN_ROWS} rows, got {n_rows}: check data.path {data.path!r}")
    label = label_name(list(names), data)
    words = column_words(names, data)
    test = _test_column(list(words), label, data)
    features = {name: words[name] for name in names if name not in (label, test)}
    return ColumnRoles(label, words[label], features, test)


def label_name(table_columns: list[str], data: DataSpec) -> str:
    """The column to predict.

    Raises:
        DataError: There is no such column, or no column besides it.
    """
    if len(table_columns) < 2:
        raise DataError(
            f"the table needs a label and at least one more column, got {len(table_columns)}: is data.separator"
            f" {data.separator!r} right?"
        )
    label = table_columns[-1] if data.label is None else data.label
    if table_columns.count(label) != 1:
        found = "no" if label not in table_columns else "more than one"
        given = repr(label) if data.label is not None or data.names_in_errors else "(the last column's name)"
        has = f": {_shortened(table_columns)}" if data.names_in_errors else f" {len(table_columns)} columns"
        raise DataError(f"data.label {given} names {found} column; the table has{has}")
    return label


def _test_column(names: Sequence[str], label: str, data: DataSpec) -> str | None:
    if not isinstance(data.test, TestColumn):
        return None
    column = data.test.column
    if column not in names or column == label:
        what = "is the label" if column == label else "is no column of the table"
        raise DataError(f"data.test.column {column!r} {what}: name the column that is true for test rows")
    if len(names) < 3:
        raise DataError("the table needs at least one column beside the label and data.test.column: add a feature")
    return column


def column_words(names: Sequence[str], data: DataSpec) -> dict[str, str]:
    """What errors call each column: its name, or its number if errors may not quote the file.

    Raises:
        DataError: Two columns have the same name.
    """
    words: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        if name in words:
            again = f"{name!r} twice" if data.names_in_errors else f"{words[name]} and column {number} with the same"
            raise DataError(f"columns must have different names, got {again}: rename one")
        words[name] = f"column {name!r}" if data.names_in_errors else f"column {number}"
    return words


def _shortened(names: list[str], limit: int = 30) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
