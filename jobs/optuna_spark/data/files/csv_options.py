"""How text becomes values, the same wherever text is read: CSV files, names of folders, what Spark hands over."""

from __future__ import annotations

import pyarrow.csv

from optuna_spark.spec.data import MISSING_IN_CSV, DataSpec


def convert_options(data: DataSpec) -> pyarrow.csv.ConvertOptions:
    """Arrow's options: a cell that is empty, or one of the words for it, is missing in columns of any type."""
    words = MISSING_IN_CSV if data.missing is None else data.missing
    return pyarrow.csv.ConvertOptions(null_values=["", *words], strings_can_be_null=True)
