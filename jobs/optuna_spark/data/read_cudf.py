"""Reads a table with cuDF, straight into GPU memory. Imported only if trials run on a GPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from optuna_spark.data.column_roles import column_roles
from optuna_spark.data.dataset import Dataset
from optuna_spark.data.labels import encode_labels
from optuna_spark.data.matrix import check_finite
from optuna_spark.data.reader_errors import unreadable
from optuna_spark.data.test_rows import with_test_rows
from optuna_spark.device import Device, check_cufile_policy
from optuna_spark.spec.data import DataSpec

log = logging.getLogger(__name__)


def read_dataset(data: DataSpec, task: str, device: Device, path: Path, key: Hashable) -> Dataset | None:
    """Read the table with cuDF; None if cuDF is not installed, or if a column does not hold numbers.

    After None the caller reads the table with Arrow, whose error says what is wrong with the column.
    """
    if importlib.util.find_spec("cudf") is None:
        log.warning("cuDF is not installed here: %s is read on the CPU and copied to %s", path, device.name)
        return None
    check_cufile_policy(str(path))
    import cupy

    with cupy.cuda.Device(device.index):
        frame = _read(data, path)
        roles = column_roles([str(name) for name in frame.columns], len(frame), data)
        features = frame[list(roles.features)]
        if any(dtype.kind not in "iufb" for dtype in features.dtypes):
            return None
        labels = encode_labels(_chunked(frame[roles.label]), roles.label_words, task)
        dataset = Dataset(_matrix(features, roles.features), labels, tuple(roles.features), key)
        return with_test_rows(dataset, data, _chunked(frame[roles.test]) if roles.test else None)


def _read(data: DataSpec, path: Path) -> Any:
    import cudf

    kind = data.format_of(str(path), is_folder=path.is_dir())
    try:
        if kind == "parquet":
            return cudf.read_parquet(str(path))
        return cudf.read_csv(str(path), sep=data.separator)
    except (RuntimeError, ValueError, OSError) as error:
        raise unreadable(path, kind, error) from None


def _chunked(series: Any) -> Any:
    import pyarrow as pa

    return pa.chunked_array([series.to_arrow()])


def _matrix(frame: Any, words: Mapping[str, str]) -> Any:
    """The columns as (n_rows, n_columns) float32 in GPU memory.

    It is filled column by column: cuDF's own conversion needs memory for the table twice.
    """
    import cupy

    matrix = cupy.empty(frame.shape, dtype=cupy.float32)
    for i, name in enumerate(frame.columns):
        matrix[:, i] = frame[name].astype("float32").to_cupy(na_value=float("nan"))
        check_finite(words[str(name)], int(cupy.isinf(matrix[:, i]).sum()))
    return matrix


def to_device(dataset: Dataset, device: Device) -> Dataset:
    """The dataset with its features in GPU memory. Without CuPy it is unchanged, and XGBoost copies what it needs."""
    if importlib.util.find_spec("cupy") is None:
        return dataset
    import cupy

    with cupy.cuda.Device(device.index):
        return dataclasses.replace(dataset, features=cupy.asarray(dataset.features))


def free_memory() -> None:
    """Give CuPy's unused memory blocks back to the GPU."""
    cupy = sys.modules.get("cupy")  # if it was never imported, it holds no memory
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()
