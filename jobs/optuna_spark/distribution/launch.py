"""Ways to start the workers: on Spark by joblib, RDD or DataFrame, or as plain processes on this machine.

They differ in how a worker is started and in where its table comes from, and in nothing else.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from optuna_spark.errors import DataError, SpecError, TuningError
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import DataSpec, TuningSpec
from optuna_spark.wire.payload import WorkerPayload, WorkerReport
from optuna_spark.worker.worker import run_worker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

REPORT_SCHEMA = "`index` int, trials int, worker string, error string, error_kind string"


def launch(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession | None) -> list[WorkerReport]:
    """Start `spec.tasks` workers and wait until all have ended.

    Args:
        spec: The run.
        payload: What each worker receives.
        spark: The session; None only for the `local` distribution.
    """
    if spec.distribution == "local":
        from optuna_spark.distribution.local import launch_local

        return launch_local(spec, payload)
    if spark is None:
        raise SpecError(f"distribution {spec.distribution} needs a Spark session; without one, use local")
    start: Callable[[TuningSpec, WorkerPayload, SparkSession], list[WorkerReport]]
    start = {"joblib": _launch_joblib, "rdd": _launch_rdd, "dataframe": _launch_dataframe}[spec.distribution]
    return start(spec, payload, spark)


def _launch_rdd(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession) -> list[WorkerReport]:
    indices = spark.sparkContext.parallelize(range(spec.tasks), spec.tasks)
    return list(indices.map(lambda index: run_worker(payload, index, gpu_addresses())).collect())


def _launch_joblib(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession) -> list[WorkerReport]:
    import joblib
    from joblibspark import register_spark

    register_spark()
    gpus = spec.resources.gpus_per_task
    with warnings.catch_warnings():
        # joblibspark 0.6 warns "does not support stage-level scheduling" whether it does or not.
        warnings.filterwarnings("ignore", message=".*stage-level scheduling.*")
        with joblib.parallel_backend(
            "spark",
            n_jobs=min(spec.jobs, spec.tasks),
            num_cpus_per_spark_task=spec.resources.cpus_per_task,
            num_gpus_per_spark_task=gpus or None,
        ):
            calls = (joblib.delayed(_joblib_worker)(payload, index) for index in range(spec.tasks))
            return list(joblib.Parallel(batch_size=1)(calls))


def _joblib_worker(payload: WorkerPayload, index: int) -> WorkerReport:
    return run_worker(payload, index, gpu_addresses())


def _launch_dataframe(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession) -> list[WorkerReport]:
    if spec.data is None:
        # Nothing to copy, so no plan of as many branches as workers: a row for each.
        return _run_on_copies(payload, spark.range(0, spec.tasks, 1, spec.tasks), has_data=False)
    # Spark has opened the table by then: workers have no business with what opens it.
    secrets, sent = payload.data_secrets, replace(payload, data_secrets=DataSecrets())
    if spec.errors_may_quote:
        return launch_on_frame(spec, sent, read_frame(spark, spec.data, secrets))
    # Spark's log quotes what it cannot read.
    spark.sparkContext.setLogLevel("OFF")
    with _readable(spec.data, secrets):
        return launch_on_frame(spec, sent, _read(spark, spec.data, secrets.options))


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


def read_frame(spark: SparkSession, data: DataSpec, secrets: DataSecrets | None = None) -> DataFrame:
    """The table as Spark reads it: any format and store Spark can read, or a table or view of its catalog.

    Args:
        spark: The session.
        data: The table.
        secrets: With the reader options that `data` does not show.

    Raises:
        SpecError: A table bundled with scikit-learn, which Spark cannot read.
        DataError: There is no such table, or Spark does not know the format.
    """
    secrets = secrets or DataSecrets()
    with _readable(data, secrets):
        return _read(spark, data, secrets.options)


@contextmanager
def _readable(data: DataSpec, secrets: DataSecrets) -> Iterator[None]:
    """Spark's errors as one sentence: in its own words, or by its name for them where those may quote the table."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        text = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        if not data.names_in_errors:
            named = error.getCondition() if isinstance(error, PySparkException) else None
            text = named or "see the executors' logs"
        words = secrets.removed_from(text.splitlines()[0])
        # The cause would be shown too, and may quote an option or the table.
        raise DataError(f"Spark cannot read data.path {data.path}: {words}") from None


def _read(spark: SparkSession, data: DataSpec, options: Mapping[str, str]) -> DataFrame:
    if data.is_catalog_table:
        return spark.table(data.path)
    if data.is_bundled:
        raise SpecError(f"data.path {data.path} is not a file Spark can read; use distribution rdd or joblib")
    kind = data.format or ("parquet" if data.path.endswith((".parquet", ".pq")) else "csv")
    reader = spark.read.format(kind)
    if kind == "csv":
        reader = reader.options(header=True, inferSchema=True, sep=data.separator)
    return reader.options(**{**data.format_options, **options}).load(data.path)


def gpu_addresses() -> Sequence[str] | None:
    """The GPU addresses Spark gave the running task; None when it gave none."""
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    resources = context.resources() if context is not None else {}
    return list(resources["gpu"].addresses) if "gpu" in resources else None
