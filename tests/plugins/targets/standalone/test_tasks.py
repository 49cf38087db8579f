"""What a task of the chain loads: a worker runs many at once."""

from __future__ import annotations

import sys

import pytest

from tests.support.programs import run_program
from tests.support.rooms import ROOT, reached

# 0.4 s and 40 MB, which only the export needs.
EXPORTS_ONLY = ("pyarrow", "plotly")


@pytest.mark.parametrize("task", ["operator", "rescore"])
def test_trials_are_started_without_arrow_and_plotly(task: str) -> None:
    # What a run that failed had finished is exported once its trials are over; and only a driver's Python has SciPy.
    elsewhere = ("tuning_pipeline.tasks.partial_export", "optuna_spark.sampling.array_tpe")
    found = reached(f"tuning_pipeline.targets.standalone.{task}", elsewhere)
    # A table is read where trials run: `ObjectiveContext.read_table` imports its readers there.
    names = sorted(name for name in found if not name.startswith("optuna_spark.data."))
    assert "tuning_pipeline.retune.warm_start" in names
    program = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    program += f"print([name for name in {EXPORTS_ONLY} if name in sys.modules])"
    path = f"{ROOT / 'plugins'}:{ROOT / 'jobs'}"
    done = run_program([sys.executable, "-c", program], env={"PYTHONPATH": path})
    assert done.stdout.splitlines()[-1] == "[]"
