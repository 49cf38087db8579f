"""Runs one function in one Spark task, with what a trial of the study has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from optuna_spark.data.read_spark import spark_errors
from optuna_spark.distribution.dataframe import packed_table
from optuna_spark.distribution.local import local_gpus
from optuna_spark.distribution.packed_table import unpack
from optuna_spark.distribution.spark_tasks import gpu_addresses
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    Work = Callable[[Sequence[str] | None, pa.Table | None], list[tuple[str, bytes]]]


def run_in_one_task(
    spec: TuningSpec, spark: SparkSession | None, secrets: DataSecrets, work: Work
) -> list[tuple[str, bytes]]:
    """Call `work` in a task, with its GPU addresses and, if Spark reads the data, the whole table.

    Args:
        spec: The run.
        spark: The session; None with distribution local, where this process is the task.
        secrets: Spark reader options of the table.
        work: Must travel by pickle.

    Returns:
        What it returned.
    """
    if spark is None:
        return work(local_gpus(spec.with_changes(tasks=1))[0], None)
    if spec.distribution != "dataframe" or spec.data is None:
        found = spark.sparkContext.parallelize([0], 1).map(lambda _: work(gpu_addresses(), None)).collect()
        return list(found[0])

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        names, contents = zip(*work(gpu_addresses(), unpack(list(batches))), strict=True)
        yield pa.RecordBatch.from_arrays([pa.array(names), pa.array(contents, pa.binary())], ["name", "content"])

    if not spec.errors_may_quote:  # Spark's log quotes the text that it cannot read
        spark.sparkContext.setLogLevel("OFF")
    running = nullcontext() if spec.errors_may_quote else spark_errors(spec.data, secrets)
    with packed_table(spark, spec.data, secrets) as whole, running:
        rows = whole.mapInArrow(run, "name string, content binary").collect()
    return [(row["name"], bytes(row["content"])) for row in rows]
