"""A long study with a pruner that is shown the most recent trials, and asked again with all of them.

Trials follow the first answer, as in a run.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from benchmarks.cases.specs import SAMPLER
from benchmarks.contenders.report import report
from benchmarks.searched import DESCENT, REPORTED, descent
from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.sampling.history import HistoryStorage
from optuna_spark.sampling.search_space import suggest_params
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec

Answers = list[tuple[bool, bool]]  # with the most recent trials, with all


class TwiceAsked:
    """A study whose pruner is asked twice.

    Args:
        pruner: The pruner.
        shown: How many finished trials it is shown at most.
        seed: The sampler's.
    """

    def __init__(self, pruner: ComponentSpec, shown: int, seed: int) -> None:
        self._storage = HistoryStorage(shown, whole=True)
        self._storage.load("bench", [StudyDirection.MINIMIZE], [])
        sampler = build_sampler(SAMPLER, seed)
        self._study = optuna.load_study(
            study_name="bench", storage=self._storage, sampler=sampler, pruner=build_pruner(pruner)
        )

    def run_trial(self) -> Answers:
        """Run one trial to its end; returns the answers that it got."""
        trial, answers = self._study.ask(), Answers()
        curve = descent(suggest_params(trial, DESCENT))
        for step, value in zip(REPORTED, curve, strict=True):
            trial.report(value, step)
            answers.append((self._should_prune(trial, recent=True), self._should_prune(trial, recent=False)))
            if answers[-1][0]:
                self._study.tell(trial, state=TrialState.PRUNED)
                return answers
        self._study.tell(trial, curve[-1])
        return answers

    def _should_prune(self, trial: optuna.Trial, recent: bool) -> bool:
        with self._storage.showing("pruner" if recent else "all"):
            return bool(trial.should_prune())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pruner", required=True, help="class name")
    parser.add_argument("--pruner-args", type=json.loads, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--shown", type=int, default=CoordinatorSpec().history, help="the default of study files")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = TwiceAsked(ComponentSpec(args.pruner, args.pruner_args), args.shown, args.seed)
    for _ in range(args.shown):  # until then both answers are the same
        study.run_trial()
    answers = np.array([answer for _ in range(args.trials - args.shown) for answer in study.run_trial()])
    recent, whole = answers[:, 0], answers[:, 1]
    report(
        answers=len(answers),
        pruned=float(recent.mean()),
        pruned_by_all=float(whole.mean()),
        differ=float((recent != whole).mean()),
    )


if __name__ == "__main__":
    main()
