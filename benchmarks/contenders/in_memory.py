"""A sampler alone: one process, the study in memory, and an objective that takes no time."""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.contenders.report import report
from benchmarks.workload import quadratic


def optuna_study(history: int) -> Any:
    """A study of Optuna's with its TPESampler and this many finished trials.

    They come from random search, which is fast, as in case b's other contenders.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(quadratic, n_trials=history)
    study.sampler = optuna.samplers.TPESampler()
    return study


def rustuna_study(history: int) -> Any:
    """The same of Rustuna's."""
    import rustuna

    storage = rustuna.storages.InMemoryStorage()
    study = rustuna.create_study(study_name="b", storage=storage, sampler=rustuna.samplers.RandomSampler(seed=0))
    study.optimize(quadratic, n_trials=history)
    return rustuna.load_study(study_name="b", storage=storage, sampler=rustuna.samplers.TPESampler())


STUDIES = {"optuna": optuna_study, "rustuna": rustuna_study}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sampler", choices=STUDIES, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--history", type=int, default=0)
    args = parser.parse_args()
    study = STUDIES[args.sampler](args.history)
    start, cpu = time.time(), time.process_time()
    study.optimize(quadratic, n_trials=args.trials)
    seconds, cpu = time.time() - start, time.process_time() - cpu
    report(seconds=seconds, wall_ms=1000 * seconds / args.trials, cpu_ms=1000 * cpu / args.trials)


if __name__ == "__main__":
    main()
