"""A run with `coordination: database` whose driver and workers are in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy as sa

from optuna_spark.driver.database_run import DatabaseRun, OpenedDatabaseRun
from optuna_spark.shared_study.shared_run import SharedRun
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.trial_callback import NOBODY
from optuna_spark.worker.database_source import DatabaseSource
from optuna_spark.worker.worker import run_trial
from tests.support.coordination import bowl

Objective = Callable[[Any], Any]


def text_of(url: sa.URL | str) -> str:
    return sa.make_url(url).render_as_string(hide_password=False)


@contextmanager
def started(spec: TuningSpec, url: sa.URL | str, ended_well: bool = True) -> Iterator[DatabaseRun]:
    """The driver's part of a run, which is finished at the end of the block."""
    run = OpenedDatabaseRun(spec, text_of(url), NOBODY).start("", "")
    try:
        yield run
    finally:
        run.finish(ended_well)


@contextmanager
def worker_of(run: DatabaseRun, name: str = "worker") -> Iterator[DatabaseSource]:
    """A worker of the run."""
    assert run.payload.storage_url is not None
    spec = TuningSpec.from_json(run.payload.spec_json)
    source = DatabaseSource(SharedRun.open(spec, run.payload.storage_url, run.payload.run_key), name)
    try:
        yield source
    finally:
        source.close()


def next_trial(source: DatabaseSource) -> optuna.Trial:
    trial = source.ask()
    assert trial is not None
    return trial


def work(run: DatabaseRun, objective: Objective = bowl, most: int | None = None, name: str = "worker") -> int:
    """Be a worker until no trial is left, or for so many trials; returns how many it ran."""
    done = 0
    with worker_of(run, name) as source:
        while (most is None or done < most) and (trial := source.ask()) is not None:
            source.tell(trial, run_trial(objective, trial, 1))
            done += 1
    return done


def work_in_threads(run: DatabaseRun, workers: int, objective: Objective = bowl) -> int:
    """Several workers at once; returns how many trials they ran."""
    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(lambda name: work(run, objective, name=str(name)), range(workers)))
