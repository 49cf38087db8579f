"""Workers as tasks of an RDD or of joblib. Each worker reads its table itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload, WorkerReport
from optuna_spark.worker.worker import run_worker

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def launch_rdd(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession) -> list[WorkerReport]:
    """Start a worker on each partition of an RDD with `spec.tasks` partitions."""
    indices = spark.sparkContext.parallelize(range(spec.tasks), spec.tasks)
    return list(indices.map(lambda index: run_worker(payload, index, gpu_addresses())).collect())


def launch_joblib(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession) -> list[WorkerReport]:
    """Start a worker for each joblib call, at most `spec.jobs` at a time."""
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
            return list(joblib.Parallel(batch_size=1)(calls))  # a batch would run its workers one after the other


def _joblib_worker(payload: WorkerPayload, index: int) -> WorkerReport:
    return run_worker(payload, index, gpu_addresses())


def gpu_addresses() -> Sequence[str] | None:
    """The GPU addresses that Spark gave the running task; None if it gave none."""
    from pyspark import TaskContext

    context: Any = TaskContext.get()
    resources = context.resources() if context is not None else {}
    return list(resources["gpu"].addresses) if "gpu" in resources else None
