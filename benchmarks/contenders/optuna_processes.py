"""Plain Optuna in several processes, as its documentation shows: the same script many times, with one RDB study.

https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html. MaxTrialsCallback ends the
trials, because the processes share nothing but the study.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

from benchmarks.contenders.report import report, storage_url

STUDY = "processes"


def work(url: str, objective: str, trials: int) -> None:
    import optuna
    from optuna.study import MaxTrialsCallback

    from benchmarks import workload

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name=STUDY, storage=url)
    study.optimize(getattr(workload, objective), n_trials=trials, callbacks=[MaxTrialsCallback(trials, states=None)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objective", required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--tasks", type=int, required=True)
    args = parser.parse_args()
    import optuna

    ready, url = time.time(), storage_url()
    optuna.create_study(study_name=STUDY, storage=url, load_if_exists=True)
    # spawn, because each process is to be a script of its own, which imports Optuna itself.
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(url, args.objective, args.trials)) for _ in range(args.tasks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    report(ready=ready, seconds=time.time() - ready)


if __name__ == "__main__":
    main()
