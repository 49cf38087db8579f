"""A sampler and a pruner of another package in a run, with either coordination."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec
from optuna_spark.worker.worker import TrialSource
from tests.support.coordination import run_one

Worker = Callable[..., TrialSource]
TRIALS = 110  # more than the least history that pruners may be limited to

CODE = """
import optuna

class Counting(optuna.samplers.RandomSampler):
    "Proposes how many finished trials it is shown."

    def sample_independent(self, study, trial, name, distribution):
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return float(len(study.get_trials(deepcopy=False, states=states)))

class AtStep(optuna.pruners.BasePruner):
    def __init__(self, step):
        self.step = step

    def prune(self, study, trial):
        return trial.last_step >= self.step
"""


def objective(trial: Any) -> float:
    x = trial.suggest_float("x", 0, 1000)
    for step in range(5):
        trial.report(x, step)
        if trial.number == 3 and trial.should_prune():
            assert step == 2
            raise optuna.TrialPruned
    assert trial.number != 3
    return float(x)


@pytest.mark.parametrize("nested", [False, True])
def test_it_is_shown_all_trials_and_its_pruner_decides(
    worker: Worker, nested: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_classes.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sampler = ComponentSpec("other_classes:Counting")
    if nested:
        base = {"name": "other_classes:Counting"}
        sampler = ComponentSpec("PartialFixedSampler", {"fixed_params": {"y": 0}, "base_sampler": base})
    source = worker(
        trials=TRIALS,
        sampler=sampler,
        pruner=ComponentSpec("other_classes:AtStep", {"step": 2}),
        coordinator=CoordinatorSpec(history=100),
    )
    shown = [run_one(source, objective).values for _ in range(TRIALS)]
    assert shown == [None if n == 3 else (float(n),) for n in range(TRIALS)]
