"""Workers on the partitions of a DataFrame. Each worker gets its own copy of the whole table."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from optuna_spark.data.read_spark import (
    LITERALLY,
    is_for_spark,
    read_frame,
    spark_errors,
    spark_opens_store,
    table_maker,
)
from optuna_spark.distribution.packed_table import ABSENT, PACKED_SCHEMA, pack, problem, unpack
from optuna_spark.distribution.spark_tasks import gpu_addresses
from optuna_spark.errors import DataError, TuningError, error_text
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload, WorkerReport
from optuna_spark.worker.worker import error_place, run_worker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

REPORT_SCHEMA = "`index` int, trials int, worker string, error string, error_kind string"


# A piece of the table is large: two in one batch could be more than Arrow's binary columns hold.
_ONE_PIECE = {"spark.sql.execution.arrow.maxRecordsPerBatch": "1"}


def launch_dataframe(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession) -> list[WorkerReport]:
    """Start a worker on each copy of the table, which one Spark task reads once."""
    if spec.table is None:
        # No table to copy: one row for each worker makes a simpler plan than a union of as many branches.
        return _run_on_copies(payload, spark.range(0, spec.tasks, 1, spec.tasks), has_data=False)
    # The workers do not open the table, so they do not need the secrets for it, and do not get them.
    secrets, sent = payload.data_secrets, replace(payload, data_secrets=DataSecrets())
    if not spec.errors_may_quote:
        # Spark's log quotes the text that it cannot read, which this run's errors may not show.
        spark.sparkContext.setLogLevel("OFF")
    running = nullcontext() if spec.errors_may_quote else spark_errors(spec.table, secrets)
    with packed_table(spark, spec.table, secrets) as whole, running:
        return _run_on_copies(sent, copies_of(whole, spec.tasks), has_data=True)


@contextmanager
def packed_table(spark: SparkSession, data: DataSpec, secrets: DataSecrets) -> Iterator[DataFrame]:
    """The table, in one partition of rows of PACKED_SCHEMA that Spark keeps.

    A task reads it with Arrow where the executors see its files. What only Spark opens, Spark reads.

    Raises:
        DataError: It cannot be read.
    """
    reading = nullcontext() if data.is_catalog_table else _conf(spark, LITERALLY)
    with reading, spark_errors(data, secrets):
        whole = _kept(
            _read_by_spark(spark, data, secrets)
            if is_for_spark(data, secrets) or spark_opens_store(spark, data)
            else _read_by_task(spark, data, secrets)
        )
        if (found := _problem_of(whole)) is not None and found[1] == ABSENT:
            whole.unpersist()
            whole = _kept(_read_where_absent(spark, data, secrets, found[0]))
            found = _problem_of(whole)
    try:
        if found is not None:
            raise DataError(found[0])
        with _conf(spark, _ONE_PIECE):
            yield whole
    finally:
        whole.unpersist()


def _read_by_task(spark: SparkSession, data: DataSpec, secrets: DataSecrets) -> DataFrame:
    """The table as Arrow reads it, on an executor. Of the secrets it gets those that open an object store."""
    opening = DataSecrets(store=secrets.store)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from optuna_spark.data.sources import absent_here
        from optuna_spark.data.table import read_afresh

        list(batches)
        if (absent := absent_here(data)) is not None:
            yield problem(absent, ABSENT)
            return
        yield from pack(lambda: read_afresh(data, opening), _shown(data))

    return spark.range(0, 1, 1, 1).mapInArrow(read, PACKED_SCHEMA)


def _read_by_spark(spark: SparkSession, data: DataSpec, secrets: DataSecrets) -> DataFrame:
    """The table as Spark reads it, made into the same by the same rules."""
    frame = read_frame(spark, data, secrets.options)
    table_of, shown = table_maker(spark, frame, data), _shown(data)

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = list(batches)
        yield from pack(lambda: table_of(rows), shown)

    # Under plain names, because Spark would take `fixed.acidity` for a field of a column.
    renamed = frame.toDF(*(f"c{number}" for number in range(len(frame.columns))))
    return renamed.coalesce(1).mapInArrow(make, PACKED_SCHEMA)


def _read_where_absent(spark: SparkSession, data: DataSpec, secrets: DataSecrets, absent: str) -> DataFrame:
    """What executors do not see as files, read by Spark, whose own file system may be another."""
    from pyspark.errors import AnalysisException

    try:
        return _read_by_spark(spark, data, secrets)
    except AnalysisException as error:
        if error.getCondition() == "PATH_NOT_FOUND" and "://" not in data.location:
            raise DataError(absent) from None
        raise


def _shown(data: DataSpec) -> Callable[[Exception], str]:
    quotes = data.names_in_errors
    return lambda error: error_text(error) if quotes else error_place(error)


def _kept(frame: DataFrame) -> DataFrame:
    return frame.persist()


def _problem_of(whole: DataFrame) -> tuple[str, str] | None:
    """Why there is no table. Fills the cache, so that the workers do not all read the table."""
    rows = whole.select("problem", "kind").collect()
    return next(((row["problem"], row["kind"]) for row in rows if row["problem"] is not None), None)


@contextmanager
def _conf(spark: SparkSession, properties: Mapping[str, str]) -> Iterator[None]:
    """Set properties of the session for a while: it may be one that others use as well."""
    before = {name: spark.conf.get(name, None) for name in properties}
    for name, value in properties.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            spark.conf.unset(name) if old is None else spark.conf.set(name, old)


def _run_on_copies(payload: WorkerPayload, copies: DataFrame, *, has_data: bool) -> list[WorkerReport]:
    """Run a worker on each partition, and collect the reports."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield _run_on_batches(payload, batches, has_data)

    rows = copies.mapInArrow(run, REPORT_SCHEMA).collect()
    return [WorkerReport(**row.asDict()) for row in rows]


def copies_of(whole: DataFrame, n_copies: int) -> DataFrame:
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
    report = run_worker(payload, index, gpu_addresses(), unpack(received) if has_data else None)
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
