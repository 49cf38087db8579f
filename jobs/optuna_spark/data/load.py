"""Loads the training table once per Python process, and keeps it for later tasks in the same process."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable
from pathlib import Path

import pyarrow as pa

from optuna_spark.data.cache import LruCache
from optuna_spark.data.column_roles import column_roles
from optuna_spark.data.dataset import Dataset
from optuna_spark.data.fetch import local_file
from optuna_spark.data.labels import encode_labels
from optuna_spark.data.matrix import to_matrix
from optuna_spark.data.read_arrow import Columns
from optuna_spark.data.table import file_version, open_columns
from optuna_spark.data.test_rows import with_test_rows
from optuna_spark.device import Device, require_cuda
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets

log = logging.getLogger(__name__)


# Only one table: a worker has one study at a time, and the table takes most of its memory.
_datasets: LruCache[Dataset] = LruCache(1)


def load_dataset(
    data: DataSpec, task: str, device: Device, table: pa.Table | None = None, secrets: DataSecrets | None = None
) -> Dataset:
    """The table of `data`, loaded to `device` once per process. Thread-safe.

    Args:
        data: Where the table is, and which column is its label.
        task: regression, binary or multiclass; decides how the label is read.
        device: Where the features are to be.
        table: The table itself, if Spark read it.
        secrets: The login of the connection that `data` names.

    Raises:
        DataError: The table is missing or unreadable, or cannot be trained on.
        DeviceError: There is no GPU, or a library to use it is missing.
    """
    require_cuda(device)
    path = None if table is not None or data.is_bundled else local_file(data, secrets)
    key = (repr(data), task, device, *_version(path, table))  # repr: format_options is a dict
    return _datasets.get(key, lambda: _load(data, task, device, path, table, key))


def forget_datasets() -> None:
    """Drop the table that `load_dataset` keeps."""
    _datasets.clear()


def _load(
    data: DataSpec, task: str, device: Device, path: Path | None, table: pa.Table | None, key: Hashable
) -> Dataset:
    if device.kind == "cuda":
        dataset = _load_to_gpu(data, task, device, path, table, key)
    else:
        dataset = from_table(_table(data, path, table), data, task, key)
    log.info(
        "Loaded %s rows, %s features from %s to %s",
        dataset.n_rows,
        len(dataset.names),
        data.path,
        device.name,
    )
    return dataset


def _load_to_gpu(
    data: DataSpec, task: str, device: Device, path: Path | None, table: pa.Table | None, key: Hashable
) -> Dataset:
    from optuna_spark.data import read_cudf

    # cuDF reads files straight into GPU memory. Everything else is read on the CPU and copied.
    dataset = read_cudf.read_dataset(data, task, device, path, key) if path is not None else None
    return dataset or read_cudf.to_device(from_table(_table(data, path, table), data, task, key), device)


def _table(data: DataSpec, path: Path | None, table: Columns | None) -> Columns:
    return open_columns(data, path) if table is None else table


def from_table(table: Columns, data: DataSpec, task: str, key: Hashable = None) -> Dataset:
    """Make a dataset on the CPU from a table.

    Raises:
        DataError: The table cannot be trained on.
    """
    roles = column_roles(table.column_names, table.num_rows, data)
    labels = encode_labels(table.select([roles.label]).column(0), roles.label_words, task)
    dataset = Dataset(to_matrix(table, roles.features), labels, tuple(roles.features), key)
    return with_test_rows(dataset, data, table.select([roles.test]).column(0) if roles.test else None)


def _version(path: Path | None, table: pa.Table | None) -> tuple[Hashable, ...]:
    """A value that changes with the table's content: a reused Python worker must not train on an old table."""
    return file_version(path) if table is None else (_digest(table),)


def _digest(table: pa.Table) -> str:
    digest = hashlib.blake2b(str(table.schema).encode())
    for column in table.columns:
        for chunk in column.chunks:
            digest.update(f"{len(chunk)},{chunk.offset}".encode())
            for buffer in chunk.buffers():
                digest.update(memoryview(buffer) if buffer is not None else b"-")
    return digest.hexdigest()
