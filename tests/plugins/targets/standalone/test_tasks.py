"""What a task of the chain loads: a worker runs many at once."""

from __future__ import annotations

import sys

import pytest

from tests.support.programs import run_program
from tests.support.rooms import ROOT, module_arrows

# 0.4 s and 40 MB, which only the export needs.
EXPORTS_ONLY = ("pyarrow", "plotly")


def reached(module: str) -> list[str]:
    """A module and all that it imports of ours, wherever in its functions."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += module_arrows()[name]
    return sorted(seen)


@pytest.mark.parametrize("task", ["operator", "rescore"])
def test_trials_are_started_without_arrow_and_plotly(task: str) -> None:
    names = reached(f"tuning_pipeline.targets.standalone.{task}")
    assert "tuning_pipeline.retune.warm_start" in names
    program = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    program += f"print([name for name in {EXPORTS_ONLY} if name in sys.modules])"
    path = f"{ROOT / 'plugins'}:{ROOT / 'jobs'}"
    done = run_program([sys.executable, "-c", program], env={"PYTHONPATH": path})
    assert done.stdout.splitlines()[-1] == "[]"
