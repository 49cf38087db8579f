"""The same sleeps as plain Spark tasks, without a sampler and without storage. Shows what Spark itself costs."""

from __future__ import annotations

import argparse
import time

from pyspark.sql import SparkSession

from benchmarks.contenders.report import report
from benchmarks.workload import duration_s, timed


def nap(number: int) -> int:
    with timed():
        time.sleep(duration_s(number))
    return number


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    args = parser.parse_args()
    spark = SparkSession.builder.appName("floor").getOrCreate()
    ready = time.time()
    finished = spark.sparkContext.parallelize(range(args.trials), args.trials).map(nap).count()
    report(ready=ready, seconds=time.time() - ready, finished=finished)
    spark.stop()


if __name__ == "__main__":
    main()
