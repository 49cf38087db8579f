"""Workers on the partitions of a DataFrame, each with its own whole copy of the table."""

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
    """A worker on each copy of the table, which Spark has read once."""
    if spec.data is None:
        # Nothing to copy, so no plan of as many branches as workers: a row for each.
        return _run_on_copies(payload, spark.range(0, spec.tasks, 1, spec.tasks), has_data=False)
    # Spark has opened the table by then: workers have no business with what opens it.
    secrets, sent = payload.data_secrets, replace(payload, data_secrets=DataSecrets())
    if spec.errors_may_quote:
        return launch_on_frame(spec, sent, read_frame(spark, spec.data, secrets))
    # Spark's log quotes what it cannot read.
    spark.sparkContext.setLogLevel("OFF")
    with spark_errors(spec.data, secrets):
        return launch_on_frame(spec, sent, read_unguarded(spark, spec.data, secrets.options))


def launch_on_frame(spec: TuningSpec, payload: WorkerPayload, frame: DataFrame) -> list[WorkerReport]:
    """Give each worker its own whole copy of `frame`, through Arrow, and run the trials on it.

    The rows are gathered into one partition and kept; each worker's partition is that one again.
    """
    whole = frame.coalesce(1).persist()
    try:
        whole.count()
        return _run_on_copies(payload, _copies(whole, spec.tasks), has_data=spec.data is not None)
    finally:
        whole.unpersist()


def _run_on_copies(payload: WorkerPayload, copies: DataFrame, *, has_data: bool) -> list[WorkerReport]:
    """A worker on each partition."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _run_on_batches(payload, batches, has_data)

    rows = copies.mapInArrow(run, REPORT_SCHEMA).collect()
    return [WorkerReport(**row.asDict()) for row in rows]


def _copies(whole: DataFrame, n_copies: int) -> DataFrame:
    """`whole`, which has one partition, `n_copies` times, each copy a partition of its own."""
    # Since Spark 4.1 a union of frames with equal partitioning merges their partitions, unless told not to.
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
    # No name for the table: the worker drops it once its objective is made.
    report = run_worker(payload, index, gpu_addresses(), _taken(received) if has_data else None)
    return as_batch(report)


def as_batch(report: WorkerReport) -> pa.RecordBatch:
    """One row of REPORT_SCHEMA, made from text: pyarrow would import pandas to convert Python's own values."""
    import pyarrow as pa
    import pyarrow.json

    texts = [(name, pa.string()) for name in ("worker", "error", "error_kind")]
    numbers = [(name, pa.int32()) for name in ("index", "trials")]
    options = pyarrow.json.ParseOptions(explicit_schema=pa.schema(numbers + texts))
    text = io.BytesIO(json.dumps(vars(report)).encode())
    return pyarrow.json.read_json(text, pyarrow.json.ReadOptions(use_threads=False), options).to_batches()[0]


def _taken(batches: list[pa.RecordBatch]) -> pa.Table:
    """The batches as one table; the list is empty afterwards."""
    import pyarrow as pa

    table = pa.Table.from_batches(batches)
    batches.clear()
    return table
