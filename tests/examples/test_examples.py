"""Every example is run, as its study file says but for the number of workers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState

from optuna_spark.results.best import best_trials
from optuna_spark.spec.sections import ResourceSpec
from tests.examples.conftest import EXAMPLES, Ran
from tests.support.servers import spark_environment

Run = Callable[..., Ran]


def test_every_example_is_run_here() -> None:
    tested = set(re.findall(r'run_example\("(\w+)"', Path(__file__).read_text()))
    assert {file.stem for file in EXAMPLES.glob("*.yaml")} == tested


def test_scikit_learn_with_cross_validation(run_example: Run) -> None:
    study = run_example("scikit_learn").study
    assert study.best_value > 0.9
    assert [len(trial.user_attrs["fold_scores"]) for trial in study.trials] == [5] * 20


def test_pruning(run_example: Run) -> None:
    study = run_example("pruning").study
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    epochs = [len(trial.intermediate_values) for trial in pruned]
    assert min(epochs) >= 2  # n_warmup_steps
    assert min(epochs) < 10
    assert study.best_value > 0.8


def test_several_objectives(run_example: Run) -> None:
    study = run_example("several_objectives").study
    assert study.metric_names == ["accuracy", "leaves"]
    front = best_trials(study, 1)
    assert len(front) > 1
    assert front[0].values[0] > front[-1].values[0]
    assert front[0].values[1] > front[-1].values[1]


def test_constraints(run_example: Run) -> None:
    study = run_example("constraints").study
    too_big = [trial for trial in study.trials if trial.constraints["nodes"] > 0]
    (best,) = best_trials(study, 1)
    assert too_big
    assert best.constraints["nodes"] <= 0
    assert best == study.best_trial


def test_a_package_of_several_files(run_example: Run) -> None:
    assert run_example("several_files").study.best_value < 2


def test_a_shared_read_only_file(run_example: Run) -> None:
    study = run_example("shared_file", tasks=2).study
    assert 1 < study.best_params["width"] < 40


def test_logging(run_example: Run) -> None:
    ran = run_example("logs")
    lines = re.findall(r"INFO logs: trial (\d) tries x=", ran.output)
    assert lines == [str(trial.number) for trial in ran.study.trials]


def test_pytorch(run_example: Run) -> None:
    python = spark_environment() / "bin" / "python"
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip("torch is not installed in the Spark environment; TUNING_SPARK_ENV may name one that has it")
    study = run_example("pytorch", resources=ResourceSpec()).study
    assert study.best_value < 0.3
    assert study.best_trial.user_attrs["device"] == "cpu"
