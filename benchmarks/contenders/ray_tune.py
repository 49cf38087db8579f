"""Ray Tune with OptunaSearch, which keeps the study in memory, set up as its documentation advises for short trials.

Its processes are reused for further trials (`reuse_actors`), which the documentation offers for class trainables:
https://docs.ray.io/en/latest/tune/api/trainable.html. The variables are those of
https://docs.ray.io/en/latest/tune/api/env.html.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.contenders.report import report
from benchmarks.workload import duration_s, timed

SETTINGS = {
    # Ray's own measurements of its overhead switch the loggers off, which write a CSV and a JSON file for each trial:
    # https://docs.ray.io/en/latest/tune/tutorials/tune-scalability.html
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Results are passed on in batches. A trial has one here.
    "TUNE_RESULT_BUFFER_LENGTH": "1000",
    # By default the state of the experiment is written as often as five hundredths of the time allow.
    "TUNE_GLOBAL_CHECKPOINT_S": "60",
    # "It can add up when running a large number of short trials"; by default every 5 s.
    "TUNE_PLACEMENT_GROUP_RECON_INTERVAL": "60",
}


def space(trial: Any) -> dict[str, int]:
    trial.suggest_float("x", -10.0, 10.0)
    trial.suggest_float("y", -10.0, 10.0)
    return {"number": trial.number}  # the objective needs it, because it decides how long the trial sleeps


class Objective(tune.Trainable):
    """One step is one trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.config = config

    def step(self) -> dict[str, Any]:
        with timed():
            time.sleep(duration_s(self.config["number"]))
        return {"loss": (self.config["x"] - 2.0) ** 2 + (self.config["y"] + 3.0) ** 2, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    args = parser.parse_args()
    os.environ.update(SETTINGS)
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(num_cpus=args.tasks, include_dashboard=False, _temp_dir=folder, log_to_driver=False)
        ready = time.time()
        tuner = tune.Tuner(
            Objective,
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                search_alg=OptunaSearch(space=space, metric="loss", mode="min"),
                num_samples=args.trials,
                max_concurrent_trials=args.tasks,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=str(Path(folder) / "results"),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        results = tuner.fit()
        seconds = time.time() - ready
        report(ready=ready, seconds=seconds, finished=len(results) - results.num_errors)
        ray.shutdown()


if __name__ == "__main__":
    main()
