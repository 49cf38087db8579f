"""The columns that a table is made of: which of its files' columns, under which names, and what is known of each."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

import pyarrow as pa

from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec

# pandas' name for an index that has none: https://pandas.pydata.org/docs/development/developer.html
_INDEX = re.compile(r"__index_level_\d+__")
_OF_FOLDERS = {b"optuna_spark": b"folder"}


class Columns(Protocol):
    """A table that gives a few columns at a time. An Arrow table is one."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def num_rows(self) -> int: ...

    def select(self, columns: Sequence[str]) -> pa.Table: ...


def of_folder(field: pa.Field) -> pa.Field:
    """The field, marked as one whose values are those of folders' names."""
    return field.with_metadata(_OF_FOLDERS)


def is_of_folder(field: pa.Field) -> bool:
    return (field.metadata or {}).items() >= _OF_FOLDERS.items()


def index_of(schema: pa.Schema) -> set[str]:
    """The columns that are the index of a pandas DataFrame, saved along with it."""
    noted = (schema.metadata or {}).get(b"pandas", b"{}")
    try:
        index = json.loads(noted).get("index_columns", ())
    except (ValueError, AttributeError):  # not pandas' own
        index = ()
    named = {name for name in index if isinstance(name, str)}  # an object describes a range, which is in no column
    return named | {name for name in schema.names if _INDEX.fullmatch(name)}


def default_label(schema: pa.Schema, data: DataSpec) -> str | None:
    """The last column that stands in the files, but that of `data.test`; None if all are of folders' names."""
    names = [field.name for field in schema if not is_of_folder(field) and field.name != data.test_column]
    return names[-1] if names else None


def chosen(schema: pa.Schema, data: DataSpec, path: str) -> list[int]:
    """The columns of a file that belong to the table: what `data.columns` says, and no index.

    Args:
        schema: The columns of the file and of its folders.
        data: The table.
        path: Of the file.

    Returns:
        Their indices. The label is among them, if there is one.

    Raises:
        DataError: A pattern matches no column, a column has no name, or two have the same.
    """
    names, index = schema.names, index_of(schema) - {data.label, data.test_column}
    drop = matching(names, data.columns.drop, "data.columns.drop", data) - {data.label, data.test_column}
    left = [i for i, name in enumerate(names) if name not in drop and name not in index]
    if data.columns.keep:
        label = data.label or default_label(pa.schema([schema.field(i) for i in left]), data)
        keep = matching(names, data.columns.keep, "data.columns.keep", data) | {label, data.test_column}
        left = [i for i in left if names[i] in keep]
    _check_names([(i + 1, names[i]) for i in left], data, path)
    return left


def matching(names: Sequence[str], patterns: Iterable[str], key: str, data: DataSpec, what: str = "column") -> set[str]:
    """The names that match any pattern. A pattern that is a name means only this one.

    Raises:
        DataError: One matches none of the names; `key` and `what` are the words for patterns and names.
    """
    found: set[str] = set()
    for pattern in patterns:
        named = {pattern} if pattern in names else {name for name in names if fnmatchcase(name, pattern)}
        if not named:
            has = f"; the table has: {shortened(names)}" if data.names_in_errors else f" of {len(names)}"
            raise DataError(f"{key} {pattern!r} matches no {what}{has}")
        found |= named
    return found


def _check_names(numbered: Iterable[tuple[int, str]], data: DataSpec, path: str) -> None:
    known: dict[str, int] = {}
    for number, name in numbered:
        if not name:
            raise DataError(
                f"column {number} of {path} has no name (a separator at an end of the first line, or an index that"
                " pandas wrote): name it, or drop it with data.columns: {drop: ['']}"
            )
        if name in known:
            again = f"{name!r} twice" if data.names_in_errors else f"columns {known[name]} and {number} with the same"
            raise DataError(
                f"columns must have different names, got {again} in {path}: rename one, or drop both with data.columns"
            )
        known[name] = number


def same_columns(schemas: Sequence[pa.Schema], paths: Sequence[str], data: DataSpec) -> pa.Schema:
    """The columns of several files, of which each must have all, in any order.

    Returns:
        The names as the first file has them, with types that hold the values of all: whole numbers among others become
        floating ones.

    Raises:
        DataError: A file has other columns, or one with values of another kind.
    """
    first = schemas[0]
    for schema, path in zip(schemas, paths, strict=True):
        if set(schema.names) != set(first.names):
            raise DataError(
                f"{path} has other columns than {paths[0]}: {_difference(schema.names, first.names, data)}; name files"
                " of one table in data.path, or choose the columns that all have with data.columns"
            )
    fields = [_same_type(name, schemas, paths, data) for name in first.names]
    return pa.schema(fields)


def _difference(names: Collection[str], first: Collection[str], data: DataSpec) -> str:
    if not data.names_in_errors:
        return f"{len(names)} columns, {len(set(names) - set(first))} of them with other names"
    lacks, more = ([n for n in some if n not in others] for some, others in ((first, names), (names, first)))
    words = [f"it lacks {_quoted(lacks)}" if lacks else "", f"has {_quoted(more)}" if more else ""]
    return ", and ".join(word for word in words if word)


def _same_type(name: str, schemas: Sequence[pa.Schema], paths: Sequence[str], data: DataSpec) -> pa.Field:
    field = schemas[0].field(name)
    for schema, path in zip(schemas, paths, strict=True):
        other = schema.field(name)
        if other.type == field.type:
            continue
        try:
            kind = pa.unify_schemas(
                [pa.schema([pa.field("x", f.type)]) for f in (field, other)], promote_options="permissive"
            )
        except pa.ArrowException:
            column = f"column {name!r}" if data.names_in_errors else f"column {schemas[0].names.index(name) + 1}"
            raise DataError(
                f"{column} is {_kind(field)} in {paths[0]} and {_kind(other)} in {path}: make them alike, or drop the"
                " column with data.columns"
            ) from None
        field = field.with_type(kind.field(0).type)
    return field


def _kind(field: pa.Field) -> str:
    return str(field.type).partition("<")[0]  # not the fields of a nested type: those are the file's content


def _quoted(names: Sequence[str]) -> str:
    return shortened([repr(name) for name in names], 5)


def shortened(names: Sequence[str], limit: int = 30) -> str:
    """Names one after the other, the first of many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
