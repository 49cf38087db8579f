"""The table of rows that Spark has read: the same columns and values as if Arrow had read them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.csv

from optuna_spark.data.files.columns import chosen, is_of_folder, of_folder
from optuna_spark.data.files.csv_options import convert_options
from optuna_spark.data.files.missing import without_missing_words
from optuna_spark.spec.data import DataSpec


def table_of_batches(
    batches: Sequence[pa.RecordBatch], names: Sequence[str], folders: Collection[str], data: DataSpec, *, is_csv: bool
) -> pa.Table:
    """Make a table of Spark's rows.

    Args:
        batches: The rows.
        names: The columns' own names.
        folders: Those of them that stand in folders' names.
        data: The table.
        is_csv: Whether text is that of a CSV file, whose types are not known yet.

    Raises:
        DataError: `data.columns` names no column, or two have the same name.
    """
    table = (
        pa.Table.from_batches(batches)
        if batches
        else pa.table({name: pa.nulls(0) for name in map(str, range(len(names)))})
    )
    fields = [field.with_name(name) for field, name in zip(table.schema, names, strict=True)]
    fields = [of_folder(field) if field.name in folders else field for field in fields]
    table = pa.Table.from_arrays(table.columns, schema=pa.schema(fields))
    table = table.select(chosen(table.schema, data, data.location))
    table = _typed(table, data, [i for i, field in enumerate(table.schema) if is_csv or is_of_folder(field)])
    return table if is_csv else without_missing_words(table, data)


def _typed(table: pa.Table, data: DataSpec, columns: Sequence[int]) -> pa.Table:
    """Text in some columns as the values that it stands for: what a CSV reader makes of it."""
    texts = [i for i in columns if pa.types.is_string(table.schema.field(i).type)]
    if not texts:
        return table
    sink = pa.BufferOutputStream()
    # A last column beside them, because a line that is empty is no row.
    lines = table.select(texts).append_column("", pa.repeat(pa.scalar(0), table.num_rows))
    lines = lines.rename_columns([str(i) for i in range(lines.num_columns)])
    pa.csv.write_csv(lines, sink, pa.csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    read = pa.csv.ReadOptions(column_names=lines.column_names, block_size=8 << 20)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    typed = pa.csv.read_csv(pa.BufferReader(sink.getvalue()), read, parse, convert_options(data))
    for number, i in enumerate(texts):
        column = typed.column(number)
        table = table.set_column(i, table.schema.field(i).with_type(column.type), column)
    return table
