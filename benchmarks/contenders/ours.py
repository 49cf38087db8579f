"""This project's engine, as jobs/tune.py runs it."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.contenders.report import report, storage_url
from optuna_spark.distribution.spark_session import spark_session
from optuna_spark.driver.run import tune
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    for noisy in ("py4j", "optuna", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    spec = TuningSpec.from_json(sys.argv[1])
    ready, cpu = time.time(), cpu_s()
    with ExitStack() as at_the_end:
        # For every contender the clock starts when the Spark session is ready. tune() opens the study before that.
        def connect() -> SparkSession:
            nonlocal ready, cpu
            spark = spark_session(spec)
            at_the_end.callback(spark.stop)
            ready, cpu = time.time(), cpu_s()
            return spark

        tune(spec, storage_url(), None if spec.distribution == "local" else connect)
        report(ready=ready, seconds=time.time() - ready, tune_cpu_s=cpu_s() - cpu)


def cpu_s() -> float:
    """CPU seconds of this process, and of its child processes that have ended, such as the study's writer."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
