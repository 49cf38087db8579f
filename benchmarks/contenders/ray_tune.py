"""Ray Tune with OptunaSearch: Ray starts a process for each trial, and keeps the study in memory."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.contenders.report import report
from benchmarks.workload import duration_s, timed


def space(trial: Any) -> dict[str, int]:
    trial.suggest_float("x", -10.0, 10.0)
    trial.suggest_float("y", -10.0, 10.0)
    return {"number": trial.number}  # the objective needs it, because it decides how long the trial sleeps


def objective(config: dict[str, Any]) -> dict[str, float]:
    with timed():
        time.sleep(duration_s(config["number"]))
    return {"loss": (config["x"] - 2.0) ** 2 + (config["y"] + 3.0) ** 2}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(num_cpus=args.tasks, include_dashboard=False, _temp_dir=folder, log_to_driver=False)
        ready = time.time()
        tuner = tune.Tuner(
            objective,
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                search_alg=OptunaSearch(space=space, metric="loss", mode="min"),
                num_samples=args.trials,
                max_concurrent_trials=args.tasks,
            ),
            run_config=tune.RunConfig(storage_path=str(Path(folder) / "results"), verbose=0),
        )
        results = tuner.fit()
        seconds = time.time() - ready
        report(ready=ready, seconds=seconds, finished=len(results) - results.num_errors)
        ray.shutdown()


if __name__ == "__main__":
    main()
