"""A driver with a real port and a real sampler, without a database: it starts in milliseconds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Self

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from optuna_spark.driver.dispatch.assignments import Assignments
from optuna_spark.driver.dispatch.study import StoredStudy
from optuna_spark.driver.request_handler import RequestHandler
from optuna_spark.driver.server import WorkerServer
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.trial_callback import NOBODY
from optuna_spark.wire.messages import Greeting
from optuna_spark.wire.sealing import new_secret
from optuna_spark.worker.driver_source import CoordinatorClient
from tests.support.notebook import Notebook


class MemoryDriver:
    """Serves workers for the length of a block.

    Args:
        spec: The run.
        stored: The study's trials so far.
        user_attrs: The study's user attributes so far.

    Attributes:
        journal: What the database would hold.
        trials: Which worker runs which trial. For looking only: another thread uses it.
    """

    def __init__(self, spec: TuningSpec, stored: Sequence[FrozenTrial] = (), **user_attrs: Any) -> None:
        self.spec, self.journal = spec, Notebook(len(stored))
        directions = [StudyDirection[d.upper()] for d in spec.directions]
        study = StoredStudy(directions, stored, {"optuna_spark:writer": "secret"}, user_attrs)
        self.trials = Assignments(spec, study, self.journal, NOBODY)
        self._secret, self._clients = new_secret(), list[CoordinatorClient]()

    def __enter__(self) -> Self:
        ready: Future[tuple[str, int]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        self._address = ready.result(60)
        return self

    def __exit__(self, *error: object) -> None:
        for client in self._clients:
            client.close()
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(60)

    def worker(self, name: str = "test:1") -> CoordinatorClient:
        """One more worker."""
        self._clients.append(CoordinatorClient(self._address, self._secret, name))
        return self._clients[-1]

    async def _serve(self, ready: Future[tuple[str, int]]) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        spec = self.spec
        greeting = Greeting(spec.study_name, spec.directions, 10.0, distributions(spec.search_space))
        handler = RequestHandler(self.trials, lambda: None)
        server = WorkerServer(handler, self._secret, 10.0, greeting)
        ready.set_result(await server.start("127.0.0.1", 0))
        await self._closing.wait()
        await server.close()
        await handler.close()
