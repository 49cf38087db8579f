"""Runs in this process under both coordinations, without Spark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from optuna_spark.shared_study.claims import make_tables
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.worker.worker import TrialSource
from tests.support.coordination import spec_for
from tests.support.memory_driver import MemoryDriver
from tests.support.shared import started, worker_of

Worker = Callable[..., TrialSource]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of SQLite with empty tables. Copying it takes a tenth of the time of making them."""
    path = tmp_path_factory.mktemp("tables") / "study.sqlite3"
    storage = create_storage(f"sqlite:///{path}")
    make_tables(storage.engine)
    close_storage(storage)
    return path


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
