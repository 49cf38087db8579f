"""Whole runs with workers in threads of this process, under either coordination, and what they leave."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from optuna_spark.errors import TrialLimitError, TuningError
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_marks import ERROR
from optuna_spark.worker.worker import TrialSource, run_trial
from tests.support.coordination import stored
from tests.support.memory_driver import MemoryDriver
from tests.support.shared import started, worker_of
from tests.support.waiting import join

Objective = Callable[[Any], Any]


@dataclass(frozen=True)
class Ended:
    """A trial of a run that has ended, as the database holds it, or would: parameters are numbers."""

    number: int
    state: TrialState
    params: dict[str, float]
    error: str | None


@dataclass(frozen=True)
class Left:
    """What a run leaves.

    Attributes:
        trials: By number.
        reason: Why it began no further trial; None if it had begun all.
        error: Why it failed; None if it did not.
    """

    trials: list[Ended]
    reason: str | None
    error: TuningError | None

    def count(self, state: TrialState) -> int:
        return sum(trial.state == state for trial in self.trials)


def run(spec: TuningSpec, objective: Objective, workers: int, tables: Path, folder: Path) -> Left:
    """Run until no worker gets a trial any more.

    Args:
        spec: The run.
        objective: What each worker calls.
        workers: How many there are.
        tables: A database of SQLite with empty tables.
        folder: Of this run.
    """
    spec = replace(spec, tasks=workers)
    return (_in_memory if spec.coordination == "driver" else _in_database)(spec, objective, workers, tables, folder)


def _in_memory(spec: TuningSpec, objective: Objective, workers: int, _tables: Path, _folder: Path) -> Left:
    with MemoryDriver(spec) as driver:
        work([driver.worker(f"test:{n}") for n in range(workers)], objective)
        budget = driver.trials.budget
    trials = [Ended(r.number, r.state, r.params, r.system_attrs.get(ERROR)) for r in driver.journal.records.values()]
    assert driver.trials.running == 0
    return Left(sorted(trials, key=lambda trial: trial.number), budget.reason, budget.error)


def _in_database(spec: TuningSpec, objective: Objective, workers: int, tables: Path, folder: Path) -> Left:
    url = f"sqlite:///{shutil.copy(tables, folder)}"
    with started(spec, url) as driver:
        sources = [worker_of(driver, f"test:{n}") for n in range(workers)]
        work([source.__enter__() for source in sources], objective)
        for source in sources:
            source.__exit__(None, None, None)
        reason, error = driver.stop_reason(), None
        try:
            driver.watch(driver.snapshot())
        except TrialLimitError as raised:
            error = raised
    trials = [Ended(t.number, t.state, t.params, t.system_attrs.get(ERROR)) for t in stored(url)]
    return Left(trials, reason, error)


def work(sources: list[Any], objective: Objective) -> None:
    """Be all these workers at once, until none gets a trial."""
    threads = [threading.Thread(target=_work, args=(source, objective), daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    join(*threads)


def _work(source: TrialSource, objective: Objective) -> None:
    while (trial := source.ask()) is not None:
        source.tell(trial, run_trial(objective, trial, 1))
