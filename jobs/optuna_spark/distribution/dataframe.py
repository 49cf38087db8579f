"""Workers on the partitions of a DataFrame. Each worker gets its own copy of the whole table."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from optuna_spark.data.read_spark import read_frame, read_unguarded, spark_errors
from optuna_spark.distribution.spark_tasks import gpu_addresses
from optuna_spark.errors import TuningError
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload, WorkerReport
from optuna_spark.worker.worker import run_worker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

REPORT_SCHEMA = "`index` int, trials int, worker string, error string, error_kind string"


def launch_dataframe(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession) -> list[WorkerReport]:
    """Start a worker on each copy of the table, which Spark reads once."""
    if spec.data is None:
        # No table to copy: one row for each worker makes a simpler plan than a union of as many branches.
        return _run_on_copies(payload, spark.range(0, spec.tasks, 1, spec.tasks), has_data=False)
    # Spark opens the table, so the workers do not need the secrets for it, and do not get them.
    secrets, sent = payload.data_secrets, replace(payload, data_secrets=DataSecrets())
    if spec.errors_may_quote:
        return launch_on_frame(spec, sent, read_frame(spark, spec.data, secrets))
    # Spark's log quotes the text that it cannot read, which this run's errors may not show.
    spark.sparkContext.setLogLevel("OFF")
    with spark_errors(spec.data, secrets):
        return launch_on_frame(spec, sent, read_unguarded(spark, spec.data, secrets.options))


def launch_on_frame(spec: TuningSpec, payload: WorkerPayload, frame: DataFrame) -> list[WorkerReport]:
    """Give each worker its own copy of the whole `frame`, through Arrow, and run the trials on it.

    Spark gathers the rows into one partition and keeps it. Each worker's partition is a copy of that one.
    """
    whole = frame.coalesce(1).persist()
    try:
        whole.count()  # fills the cache, so that the workers do not all read the table
        return _run_on_copies(payload, _copies(whole, spec.tasks), has_data=spec.data is not None)
    finally:
        whole.unpersist()


def _run_on_copies(payload: WorkerPayload, copies: DataFrame, *, has_data: bool) -> list[WorkerReport]:
    """Run a worker on each partition, and collect the reports."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _run_on_batches(payload, batches, has_data)

    rows = copies.mapInArrow(run, REPORT_SCHEMA).collect()
    return [WorkerReport(**row.asDict()) for row in rows]


def _copies(whole: DataFrame, n_copies: int) -> DataFrame:
    """A DataFrame of `n_copies` partitions, each a copy of the one partition of `whole`."""
    # Since Spark 4.1 a union of frames with equal partitioning merges their partitions, unless this is off.
    whole.sparkSession.conf.set("spark.sql.unionOutputPartitioning", "false")
    copies: DataFrame = reduce(lambda left, right: left.unionAll(right), [whole] * n_copies)
    partitions = copies.rdd.getNumPartitions()
    if partitions != n_copies:
        raise TuningError(
            f"Spark made {partitions} partition(s) of {n_copies} copies of the table: use distribution rdd or joblib"
        )
    return copies


def _run_on_batches(payload: WorkerPayload, batches: Iterator[pa.RecordBatch], has_data: bool) -> pa.RecordBatch:
    from pyspark import TaskContext

    received = list(batches)
    context = TaskContext.get()
    index = context.partitionId() if context is not None else 0
    # The table gets no name here: a variable would keep it in memory after the worker has dropped it.
    report = run_worker(payload, index, gpu_addresses(), _taken(received) if has_data else None)
    return as_batch(report)


def as_batch(report: WorkerReport) -> pa.RecordBatch:
    """A report as one row of REPORT_SCHEMA.

    It goes through JSON, because pyarrow would import pandas to convert Python objects.
    """
    import pyarrow as pa
    import pyarrow.json

    texts = [(name, pa.string()) for name in ("worker", "error", "error_kind")]
    numbers = [(name, pa.int32()) for name in ("index", "trials")]
    options = pyarrow.json.ParseOptions(explicit_schema=pa.schema(numbers + texts))
    text = io.BytesIO(json.dumps(vars(report)).encode())
    return pyarrow.json.read_json(text, pyarrow.json.ReadOptions(use_threads=False), options).to_batches()[0]


def _taken(batches: list[pa.RecordBatch]) -> pa.Table:
    """The batches as one table. The list is emptied, so that only the table keeps their memory."""
    import pyarrow as pa

    table = pa.Table.from_batches(batches)
    batches.clear()
    return table
