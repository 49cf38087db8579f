"""Loads the training table once per Python process, and keeps it for later tasks in the same process."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Hashable, Mapping
from typing import Any

import pyarrow as pa

from optuna_spark.data.cache import LruCache
from optuna_spark.data.categories import Encoder
from optuna_spark.data.column_roles import column_roles
from optuna_spark.data.dataset import Dataset
from optuna_spark.data.files.columns import Columns
from optuna_spark.data.files.listing import TableFiles
from optuna_spark.data.files.read_parquet import ParquetColumns
from optuna_spark.data.labels import encode_labels
from optuna_spark.data.matrix import to_matrix
from optuna_spark.data.row_roles import read_rows
from optuna_spark.data.sources import held_still, table_files
from optuna_spark.data.table import open_columns
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
        data: Where the table is, and what its columns are.
        task: regression, binary or multiclass; decides how the label is read.
        device: Where the features are to be.
        table: The table itself, if Spark read it.
        secrets: The login of the connection that `data` names.

    Raises:
        DataError: The table is missing or unreadable, or cannot be trained on.
        DeviceError: There is no GPU, or a library to use it is missing.
    """
    require_cuda(device)
    files = None if table is not None or data.is_bundled else table_files(data, secrets)
    version: Hashable = _digest(table) if table is not None else files and files.version
    key = (repr(data), task, device, version)  # repr: format_options is a dict

    def read() -> Dataset:
        with held_still(data, files, secrets):
            return _load(_opened(data, files, table), data, task, device, key)

    return _datasets.get(key, read)


def _opened(data: DataSpec, files: TableFiles | None, table: pa.Table | None) -> Columns:
    return open_columns(data, files) if table is None else table


def forget_datasets() -> None:
    """Drop the table that `load_dataset` keeps."""
    _datasets.clear()


def _load(table: Columns, data: DataSpec, task: str, device: Device, key: Hashable) -> Dataset:
    dataset = from_table(table, data, task, key, device)
    log.info(
        "Loaded %s rows, %s features from %s to %s",
        dataset.n_rows,
        len(dataset.names),
        data.location,
        device.name,
    )
    return dataset


def from_table(table: Columns, data: DataSpec, task: str, key: Hashable, device: Device) -> Dataset:
    """Make a dataset from a table.

    Raises:
        DataError: The table cannot be trained on.
    """
    roles = column_roles(table.schema, table.num_rows, data)
    labels = encode_labels(table.select([roles.label]).column(0), roles.label_words, task)
    columns = {key: table.select([name]).column(0) for key, (name, _) in roles.rows.items()}
    rows = read_rows(columns, {key: words for key, (_, words) in roles.rows.items()})
    encoder = Encoder(table.schema, roles.features, data)
    on_cpu = device.kind == "cpu"
    features = to_matrix(table, roles.features, encoder) if on_cpu else _on_gpu(table, roles.features, device, encoder)
    dataset = Dataset(features, labels, tuple(roles.features), key, encoder.categories, rows=rows)
    return with_test_rows(dataset, data, table.select([roles.test]).column(0) if roles.test else None)


def _on_gpu(table: Columns, words: Mapping[str, str], device: Device, encoder: Encoder) -> Any:
    from optuna_spark.data import read_cudf

    # cuDF reads plain Parquet files of numbers straight into GPU memory. All else is read on the CPU and copied.
    plain = None
    if isinstance(table, ParquetColumns) and not encoder.columns:
        plain = table.plain_files(list(words))
    features = None if plain is None else read_cudf.read_matrix(plain, table.schema, words, device)
    return read_cudf.to_device(to_matrix(table, words, encoder), device) if features is None else features


def _digest(table: pa.Table) -> str:
    digest = hashlib.blake2b(str(table.schema).encode())
    for column in table.columns:
        for chunk in column.chunks:
            digest.update(f"{len(chunk)},{chunk.offset}".encode())
            for buffer in chunk.buffers():
                digest.update(memoryview(buffer) if buffer is not None else b"-")
    return digest.hexdigest()
