"""Reads CSV files with Arrow: a first line with names, quotes as in RFC 4180, types found from all rows."""

from __future__ import annotations

import codecs
import io

import pyarrow as pa
import pyarrow.csv

from optuna_spark.data.files.columns import chosen, same_columns
from optuna_spark.data.files.content import UNREADABLE, head_of, known_compression, open_content
from optuna_spark.data.files.csv_options import convert_options
from optuna_spark.data.files.listing import TableFile, TableFiles
from optuna_spark.data.files.reader_errors import unreadable
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec

# A row must fit into a block.
_BLOCK = 8 << 20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_csv(files: TableFiles, folders: pa.Table, data: DataSpec) -> pa.Table:
    """All rows of all files, in the order of the files.

    Args:
        files: The files, and the file system they are on.
        folders: The columns of their folders' names, a row for each file.
        data: How to read them.

    Raises:
        DataError: A file cannot be read, or has other columns than the first.
    """
    names = [str(file) for file in files.files]
    tables = [_read_one(files, i, folders.slice(i, 1), data) for i in range(len(names))]
    if len(tables) == 1:
        return tables[0]
    schema = same_columns([table.schema for table in tables], names, data)
    return pa.concat_tables([table.select(schema.names).cast(schema, safe=False) for table in tables])


def _read_one(files: TableFiles, number: int, folders: pa.Table, data: DataSpec) -> pa.Table:
    file = files.files[number]
    table = _parsed(files, file, data)
    for i, field in enumerate(folders.schema):
        table = table.append_column(field, pa.repeat(folders.column(i)[0], table.num_rows))
    table = table.select(chosen(table.schema, data, str(file)))
    for field in table.schema:
        if pa.types.is_binary(field.type):  # Arrow's type of text that is no UTF-8
            raise _not_utf8(files, file, data, field.name)
    return table


def _parsed(files: TableFiles, file: TableFile, data: DataSpec) -> pa.Table:
    try:
        _check_head(head_of(files.filesystem, file), file, data)
        read = pa.csv.ReadOptions(block_size=_BLOCK, encoding=data.encoding or "utf8")
        try:
            table = _read(files, file, data, read)
        except pa.ArrowInvalid:
            read.use_threads = False  # one thread counts the rows, and so names the one at fault
            table = _read(files, file, data, read)
        _ = table.column_names  # decodes the names here, where an error of that can be caught
    except UnicodeError:
        raise _not_utf8(files, file, data, None) from None
    except UNREADABLE as error:
        raise unreadable(file, "csv", error, known_compression(files.filesystem, file)) from None
    return table


def _read(files: TableFiles, file: TableFile, data: DataSpec, read: pa.csv.ReadOptions) -> pa.Table:
    parse = pa.csv.ParseOptions(delimiter=data.separator, newlines_in_values=True)
    with open_content(files.filesystem, file) as stream:
        return pa.csv.read_csv(stream, read, parse, convert_options(data))


def _check_head(head: bytes, file: TableFile, data: DataSpec) -> None:
    if not head.strip():
        raise DataError(f"{file} is empty: a table needs a first line with names, and rows")
    if data.encoding is None and (head.startswith(_UTF_16) or b"\0" in head[:100]):
        raise DataError(
            f"{file} is not UTF-8 (it holds zero bytes, as UTF-16 does): save it as UTF-8, or set data.encoding, such"
            " as utf-16"
        )


def _not_utf8(files: TableFiles, file: TableFile, data: DataSpec, column: str | None) -> DataError:
    if data.encoding is not None:
        return DataError(f"{file} is not {data.encoding}: correct data.encoding, or remove it if the file is UTF-8")
    place = f"line {_first_wrong_line(files, file)}"
    if column is not None and data.names_in_errors:
        place += f", column {column!r}"
    return DataError(f"{file} is not UTF-8 ({place}): save it as UTF-8, or set data.encoding, such as latin-1")


def _first_wrong_line(files: TableFiles, file: TableFile) -> int:
    with open_content(files.filesystem, file) as stream:
        for number, line in enumerate(io.BufferedReader(stream), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1
