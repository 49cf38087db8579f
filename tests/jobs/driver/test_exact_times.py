"""When a trial began and ended is kept exactly, on a server whose columns for times hold whole seconds."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from init.local.mysql import MysqlServer
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_marks import times_of
from tests.support.coordination import new_database, run, spec_for, stored
from tests.support.shared import started, work

SLEPT: list[float] = []


def sleeper(trial: Any) -> float:
    begin = time.monotonic()
    time.sleep(0.3)
    SLEPT[:] = [time.monotonic() - begin]
    return 1.0


def by_the_driver(url: sa.URL) -> None:
    run(spec_for(trials=1), url, sleeper)


def by_the_worker(url: sa.URL) -> None:
    spec = TuningSpec("study", trials=1, coordination="database", run_id="one")
    with started(spec, url) as begun:
        work(begun, sleeper)


@pytest.mark.parametrize("tune", [by_the_driver, by_the_worker])
def test_the_times_of_a_trial_are_exact(mysql_server: MysqlServer, tune: Any) -> None:
    url = new_database(mysql_server)
    tune(url)
    (trial,) = stored(url)
    assert trial.datetime_start is not None
    assert trial.datetime_start.microsecond == 0, "the column holds fractions now: the notes are needed no more"
    start, complete = times_of(trial)
    assert start is not None
    assert complete is not None
    assert (start.microsecond, complete.microsecond) != (0, 0)
    assert (complete - start).total_seconds() >= SLEPT[0]
    assert abs((start - trial.datetime_start).total_seconds()) <= 1
