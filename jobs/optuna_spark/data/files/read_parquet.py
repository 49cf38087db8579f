"""Reads Parquet files with Arrow, a few columns at a time: so the whole table is never in memory beside its matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet
from pyarrow import fs

from optuna_spark.data.files.columns import chosen, same_columns
from optuna_spark.data.files.content import UNREADABLE, compression_of, open_content
from optuna_spark.data.files.listing import TableFile, TableFiles
from optuna_spark.data.files.missing import without_missing_words
from optuna_spark.data.files.reader_errors import unreadable
from optuna_spark.spec.data import DataSpec


class ParquetColumns:
    """The columns of one or more Parquet files, read when they are selected.

    Attributes:
        schema: The columns of the table.
        num_rows: Of all files.

    Raises:
        DataError: A file cannot be read, or has other columns than the first.
    """

    def __init__(self, files: TableFiles, folders: pa.Table, data: DataSpec) -> None:
        self._data, self._folders = data, folders
        self._files = files.files
        self._is_local = isinstance(files.filesystem, fs.LocalFileSystem)
        self._fragments: list[ds.ParquetFileFragment] = []
        self._is_packed = False
        schemas = []
        self.num_rows = 0
        for file in files.files:
            fragment, schema = self._opened(files, file)
            self._fragments.append(fragment)
            schemas.append(schema)
        self.schema = (
            schemas[0] if len(schemas) == 1 else same_columns(schemas, [str(file) for file in files.files], data)
        )

    def _opened(self, files: TableFiles, file: TableFile) -> tuple[ds.ParquetFileFragment, pa.Schema]:
        try:
            kind = compression_of(files.filesystem, file)
            content = _content(files, file) if kind else files.filesystem.open_input_file(file.path)
            # Not the fragment's schema: a dataset takes no file in which a name stands twice.
            opened = pa.parquet.ParquetFile(content)
            own, n_rows = opened.schema_arrow, int(opened.metadata.num_rows)
            parquet = ds.ParquetFileFormat()
            fragment = parquet.make_fragment(*((content,) if kind else (file.path, files.filesystem)))
        except UNREADABLE as error:
            raise unreadable(file, "parquet", error) from None
        self.num_rows += n_rows
        self._is_packed |= bool(kind)
        whole = pa.schema([*own, *self._folders.schema], own.metadata)
        return fragment, pa.schema([whole.field(i) for i in chosen(whole, self._data, str(file))])

    def select(self, columns: Sequence[str]) -> pa.Table:
        """Read these columns.

        Raises:
            DataError: They cannot be read.
        """
        schema = pa.schema([self.schema.field(name) for name in columns])
        parts = [self._part(number, schema) for number in range(len(self._fragments))]
        return without_missing_words(pa.concat_tables(parts), self._data)

    def _part(self, number: int, schema: pa.Schema) -> pa.Table:
        """These columns of one file and of its folders."""
        fragment = self._fragments[number]
        own = [name for name in schema.names if name not in self._folders.column_names]
        try:
            read = fragment.to_table(columns={name: pc.field(name) for name in own}) if own else None
            n_rows = fragment.count_rows() if read is None else read.num_rows
            columns = [
                pa.repeat(self._folders.column(name)[number], n_rows) if read is None or name not in own
                else read.column(name)
                for name in schema.names
            ]  # fmt: skip
            arrays = [column.cast(field.type, safe=False) for column, field in zip(columns, schema, strict=True)]
        except UNREADABLE as error:
            raise unreadable(self._files[number], "parquet", error) from None
        return pa.Table.from_arrays(arrays, schema=schema)

    def plain_files(self, columns: Sequence[str]) -> list[str] | None:
        """The files of this machine, if these columns can be taken from them as they are, by any reader; else None."""
        alike = all(
            field.type == fragment.physical_schema.field(field.name).type
            for fragment in self._fragments
            for field in map(self.schema.field, columns)
            if field.name not in self._folders.column_names
        )
        of_folders = any(name in self._folders.column_names for name in columns)
        return (
            None
            if not self._is_local or self._is_packed or self._data.missing or of_folders or not alike
            else [file.path for file in self._files]
        )


def _content(files: TableFiles, file: TableFile) -> Any:
    """The whole content of a compressed file: Parquet is read from its end."""
    with open_content(files.filesystem, file) as stream:
        return pa.BufferReader(stream.read())
