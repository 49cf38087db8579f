"""Reads Parquet with cuDF, straight into GPU memory. Imported only if trials run on a GPU.

Arrow has read the names and types before, and reads the label and whatever is not plain Parquet: so a table is the same
with a GPU and without.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from optuna_spark.data.files.reader_errors import unreadable
from optuna_spark.data.matrix import EXACT, check_finite, not_exact
from optuna_spark.device import Device, check_cufile_policy
from optuna_spark.errors import DataError

log = logging.getLogger(__name__)


def read_matrix(paths: Sequence[str], schema: pa.Schema, words: Mapping[str, str], device: Device) -> Any | None:
    """Columns of Parquet files as (n_rows, n_columns) float32 in GPU memory.

    Args:
        paths: The files, in the order of their rows.
        schema: The columns of the table, as Arrow sees them in the files.
        words: The columns to take, and the name of each in errors.
        device: The GPU.

    Returns:
        None if cuDF is not installed, or a column does not hold numbers: Arrow then reads it, and says what is wrong.

    Raises:
        DataError: The files cannot be read, or a column holds a number that cannot be trained on.
    """
    if importlib.util.find_spec("cudf") is None:
        log.warning("cuDF is not installed here: %s is read on the CPU and copied to %s", paths[0], device.name)
        return None
    if not all(_is_plain_number(schema.field(name).type) for name in words):
        return None
    for path in paths:
        check_cufile_policy(path)
    import cudf
    import cupy

    with cupy.cuda.Device(device.index):
        try:
            # Only these columns, by the names that Arrow has found; none becomes an index, whatever pandas noted.
            frame = cudf.read_parquet(list(paths), columns=list(words), use_pandas_metadata=False)
        except (RuntimeError, ValueError, OSError) as error:
            raise unreadable(paths[0], "parquet", error) from None
        return _matrix(frame, words)


def _is_plain_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _matrix(frame: Any, words: Mapping[str, str]) -> Any:
    """It is filled column by column: cuDF's own conversion needs memory for the table twice."""
    import cupy

    matrix = cupy.empty((len(frame), len(words)), dtype=cupy.float32)
    for i, name in enumerate(words):
        column = frame[name]
        if _is_inexact(column):
            raise DataError(not_exact(words[name]))
        matrix[:, i] = column.astype("float32").to_cupy(na_value=float("nan"))
        check_finite(words[name], int(cupy.isinf(matrix[:, i]).sum()))
    return matrix


def _is_inexact(column: Any) -> bool:
    """As matrix.check_exact."""
    is_long = column.dtype.kind in "iu" and column.dtype.itemsize == 8 and column.count() > 0
    return is_long and (int(column.max()) > EXACT or int(column.min()) < -EXACT)


def to_device(features: Any, device: Device) -> Any:
    """The features in GPU memory. Without CuPy they are unchanged, and XGBoost copies what it needs."""
    if importlib.util.find_spec("cupy") is None:
        return features
    import cupy

    with cupy.cuda.Device(device.index):
        return cupy.asarray(features)


def free_memory() -> None:
    """Give CuPy's unused memory blocks back to the GPU."""
    cupy = sys.modules.get("cupy")  # if it was never imported, it holds no memory
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()
