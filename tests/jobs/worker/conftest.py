"""Runs in this process under both coordinations, without Spark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.worker.worker import TrialSource
from tests.support.coordination import spec_for
from tests.support.memory_driver import MemoryDriver
from tests.support.shared import started, worker_of

Worker = Callable[..., TrialSource]


@pytest.fixture(params=["driver", "database"])
def worker(request: pytest.FixtureRequest, tables: Path, tmp_path: Path) -> Iterator[Worker]:
    """Makes the workers of one run, whose spec the first call decides: `worker(trials=3)`."""
    with ExitStack() as stack:
        make: Worker | None = None

        def one(**changes: Any) -> TrialSource:
            nonlocal make
            if make is None:
                spec = spec_for(**{"coordination": request.param, "search_space": {}, **changes})
                if request.param == "driver":
                    make = stack.enter_context(MemoryDriver(spec)).worker
                else:
                    make = _by_database(spec, shutil.copy(tables, str(tmp_path)), stack)
            return make()

        yield one


def _by_database(spec: TuningSpec, database: str, stack: ExitStack) -> Worker:
    run = stack.enter_context(started(spec, f"sqlite:///{database}"))
    return lambda: stack.enter_context(worker_of(run, "test:1"))
