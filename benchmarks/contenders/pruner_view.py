"""A long study with a pruner as a run asks it, and asked again as Optuna's own class with all trials shown.

Trials follow the first answer.
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

Answers = list[tuple[bool, bool]]  # as in a run, and of Optuna's own class with all trials


class TwiceAsked:
    """A study whose pruner is asked twice.

    Args:
        pruner: The pruner, a class of Optuna's.
        history: `coordinator.history` of the run.
        seed: The sampler's.
    """

    def __init__(self, pruner: ComponentSpec, history: int, seed: int) -> None:
        self._storage = HistoryStorage(history, whole=True)
        self._storage.load("bench", [StudyDirection.MINIMIZE], [])
        sampler = build_sampler(SAMPLER, seed)
        self._study = optuna.load_study(
            study_name="bench", storage=self._storage, sampler=sampler, pruner=build_pruner(pruner)
        )

        self._optunas = getattr(optuna.pruners, pruner.name)(**pruner.args)

    def run_trial(self) -> Answers:
        """Run one trial to its end; returns the answers that it got."""
        trial, answers = self._study.ask(), Answers()
        curve = descent(suggest_params(trial, DESCENT))
        for step, value in zip(REPORTED, curve, strict=True):
            trial.report(value, step)
            answers.append(self._ask(trial))
            if answers[-1][0]:
                self._study.tell(trial, state=TrialState.PRUNED)
                return answers
        self._study.tell(trial, curve[-1])
        return answers

    def _ask(self, trial: optuna.Trial) -> tuple[bool, bool]:
        with self._storage.showing("pruner"):
            answer = bool(trial.should_prune())
        with self._storage.showing("all"):
            return answer, bool(self._optunas.prune(self._study, self._storage.get_trial(trial.number)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pruner", required=True, help="class name")
    parser.add_argument("--pruner-args", type=json.loads, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    history = CoordinatorSpec().history  # the default of study files
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = TwiceAsked(ComponentSpec(args.pruner, args.pruner_args), history, args.seed)
    answers = np.array([answer for _ in range(args.trials) for answer in study.run_trial()])
    ours, optunas = answers[:, 0], answers[:, 1]
    report(
        answers=len(answers),
        pruned=float(ours.mean()),
        pruned_by_optunas=float(optunas.mean()),
        differ=float((ours != optunas).mean()),
    )


if __name__ == "__main__":
    main()
