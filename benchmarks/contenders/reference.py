"""The reference: a fixed share of the trials for each worker, and RDBStorage opened by every worker.

Written anew after NVIDIA's "Optuna on Spark + GPUs" examples. The trials are divided beforehand, and each Spark task
calls `study.optimize` with its share. `joblib` starts the tasks one by one through joblibspark, `rdd` as one job.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import optuna
from pyspark.sql import SparkSession

from benchmarks.contenders.report import report, storage_url

STUDY = "reference"


def shares(trials: int, tasks: int) -> list[int]:
    """How many trials each task runs. The first tasks take the remainder."""
    return [trials // tasks + (index < trials % tasks) for index in range(tasks)]


def optimize(url: str, objective: str, n_trials: int) -> int:
    """Run one task: open the study in the database, and run a share of the trials."""
    from benchmarks import workload

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    function: Callable[[Any], float] = getattr(workload, objective)
    optuna.load_study(study_name=STUDY, storage=url).optimize(function, n_trials=n_trials)
    return n_trials


def run_rdd(spark: SparkSession, url: str, objective: str, parts: list[int]) -> int:
    tasks = spark.sparkContext.parallelize(parts, len(parts))
    return int(tasks.map(lambda share: optimize(url, objective, share)).sum())


def run_joblib(url: str, objective: str, parts: list[int]) -> int:
    import joblib
    from joblibspark import register_spark

    register_spark()
    with joblib.parallel_backend("spark", n_jobs=len(parts)):
        return sum(joblib.Parallel()(joblib.delayed(optimize)(url, objective, share) for share in parts))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--distribution", choices=("joblib", "rdd"), required=True)
    parser.add_argument("--objective", required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    args = parser.parse_args()
    spark = SparkSession.builder.appName("reference").getOrCreate()
    ready, url, parts = time.time(), storage_url(), shares(args.trials, args.tasks)
    optuna.create_study(study_name=STUDY, storage=url, load_if_exists=True)
    if args.distribution == "rdd":
        run_rdd(spark, url, args.objective, parts)
    else:
        run_joblib(url, args.objective, parts)
    report(ready=ready, seconds=time.time() - ready)
    spark.stop()


if __name__ == "__main__":
    main()
