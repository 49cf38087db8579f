"""Columns whose values are in the names of folders, `year=2024`, as Hive and Spark write them."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.csv

from optuna_spark.data.files.columns import of_folder
from optuna_spark.data.files.csv_options import convert_options
from optuna_spark.data.files.listing import TableFiles
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec


def folder_columns(files: TableFiles, data: DataSpec) -> pa.Table:
    """One row for each file, (n_files, n_folder_columns), typed as the cells of a CSV file are.

    Raises:
        DataError: The folders of one file have other names than those of another.
    """
    names = [name for name, _ in files.files[0].folders]
    for file in files.files:
        if [name for name, _ in file.folders] != names:
            raise DataError(
                f"{file} lies in folders for other columns than {files.files[0]}: name folders of one table"
                " in data.path"
            )
    columns = [_typed([file.folders[i][1] for file in files.files], data) for i in range(len(names))]
    fields = [of_folder(pa.field(name, column.type)) for name, column in zip(names, columns, strict=True)]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _typed(texts: list[str | None], data: DataSpec) -> pa.ChunkedArray:
    cells = ("" if text is None else '"' + text.replace('"', '""') + '"' for text in texts)
    # A second column, because a line that is empty is no row.
    file = io.BytesIO("".join(f"{cell},\n" for cell in cells).encode())
    return pa.csv.read_csv(
        file,
        pa.csv.ReadOptions(column_names=["value", "none"], use_threads=False),
        pa.csv.ParseOptions(newlines_in_values=True),
        convert_options(data),
    ).column(0)
