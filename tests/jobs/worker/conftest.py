"""Runs in this process under both coordinations, without Spark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.worker.database_source import DatabaseSource, SharedStudy
from optuna_spark.worker.worker import TrialSource
from tests.support.coordination import spec_for
from tests.support.memory_driver import MemoryDriver

Worker = Callable[..., TrialSource]


@pytest.fixture(params=["driver", "database"])
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    """Makes the workers of one run, whose spec the first call decides: `worker(trials=3)`."""
    with ExitStack() as stack:
        make: Worker | None = None

        def one(**changes: Any) -> TrialSource:
            nonlocal make
            if make is None:
                spec = spec_for(**{"coordination": request.param, "search_space": {}, **changes})
                make = (_by_driver if request.param == "driver" else _by_database)(spec, tmp_path, stack)
            return make()

        yield one


def _by_driver(spec: TuningSpec, tmp_path: Path, stack: ExitStack) -> Worker:
    return stack.enter_context(MemoryDriver(spec)).worker


def _by_database(spec: TuningSpec, tmp_path: Path, stack: ExitStack) -> Worker:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    stored = SharedStudy.open(spec, url, "key")
    stack.callback(stored.close)
    stored.claims.create(spec.trials)

    def make() -> TrialSource:
        source = DatabaseSource(SharedStudy.open(spec, url, "key"), "test:1")
        stack.callback(source.close)
        return source

    return make
