"""Chooses how the workers are started: by joblib, RDD or DataFrame on Spark, or as plain processes on this machine.

The ways differ only in how a worker is started and in where its table comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from optuna_spark.distribution.dataframe import launch_dataframe
from optuna_spark.distribution.spark_tasks import launch_joblib, launch_rdd
from optuna_spark.errors import SpecError
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload, WorkerReport

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def launch(spec: TuningSpec, payload: WorkerPayload, spark: SparkSession | None) -> list[WorkerReport]:
    """Start `spec.tasks` workers and wait until all have ended.

    Args:
        spec: The run.
        payload: The data that each worker is started with.
        spark: The session; None only for the `local` distribution.

    Returns:
        One report for each worker.

    Raises:
        SpecError: The distribution needs Spark, and there is no session.
    """
    if spec.distribution == "local":
        from optuna_spark.distribution.local import launch_local

        return launch_local(spec, payload)
    if spark is None:
        raise SpecError(f"distribution {spec.distribution} needs a Spark session; without one, use local")
    start: Callable[[TuningSpec, WorkerPayload, SparkSession], list[WorkerReport]]
    start = {"joblib": launch_joblib, "rdd": launch_rdd, "dataframe": launch_dataframe}[spec.distribution]
    return start(spec, payload, spark)
