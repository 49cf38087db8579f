"""Optuna's sampler alone: one process, the study in memory, and an objective that takes no time."""

from __future__ import annotations

import argparse
import time

import optuna

from benchmarks.contenders.report import report
from benchmarks.workload import quadratic


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--history", type=int, default=0)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # The history comes from random search, which is fast, as in case b's other contenders.
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(quadratic, n_trials=args.history)
    study.sampler = optuna.samplers.TPESampler()
    start, cpu = time.time(), time.process_time()
    study.optimize(quadratic, n_trials=args.trials)
    seconds, cpu = time.time() - start, time.process_time() - cpu
    report(seconds=seconds, wall_ms=1000 * seconds / args.trials, cpu_ms=1000 * cpu / args.trials)


if __name__ == "__main__":
    main()
