"""MLflow's MlflowSparkStudy: trials are Spark tasks, which use an MLflow tracking server over the same MySQL server.

It is set up to do no more than its documentation asks for: no autologging, no artifacts, no telemetry.
https://docs.databricks.com/aws/en/machine-learning/automl-hyperparam-tuning/optuna says how it is used,
https://mlflow.org/docs/latest/self-hosting/architecture/tracking-server how the server is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.optuna.storage import MlflowStorage
from mlflow.pyspark.optuna.study import MlflowSparkStudy
from pyspark.sql import SparkSession

from benchmarks import workload
from benchmarks.contenders.report import report, storage_url

START_S = 90.0
# Each trial that begins or ends writes what was collected anyway, so nothing waits for this.
FLUSH_S = 60.0


@contextmanager
def tracking_server(port: int, artifacts: str) -> Iterator[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    workers = len(os.sched_getaffinity(0))
    # The folder is only named: nothing is written to it, and the server does not pass artifacts on.
    command += ["--no-serve-artifacts", "--default-artifact-root", artifacts, "--workers", str(workers)]
    # The URL holds the password, so it goes through the environment.
    server = subprocess.Popen(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": storage_url()})
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise TimeoutError(f"the MLflow server did not answer at {address}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objective", required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--artifacts", required=True)
    args = parser.parse_args()
    spark = SparkSession.builder.appName("mlflow").getOrCreate()
    with tracking_server(args.port, args.artifacts) as address:
        mlflow.set_tracking_uri(address)
        experiment = mlflow.create_experiment("bench")
        ready = time.time()
        storage = MlflowStorage(experiment_id=experiment, batch_flush_interval=FLUSH_S)
        study = MlflowSparkStudy(study_name="mlflow", storage=storage, mlflow_tracking_uri=address)
        study.optimize(getattr(workload, args.objective), n_trials=args.trials, n_jobs=args.tasks)
        seconds = time.time() - ready
        # After the clock was read: reading all trials back is not part of the run.
        states = [trial.state.name for trial in study.trials]
        report(ready=ready, seconds=seconds, finished=states.count("COMPLETE"))
    spark.stop()


if __name__ == "__main__":
    main()
