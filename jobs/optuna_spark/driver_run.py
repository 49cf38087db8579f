"""A run the driver coordinates: the Coordinator as `run.tune` uses it."""

from __future__ import annotations

from optuna_spark.coordinator import Coordinator
from optuna_spark.progress import Snapshot
from optuna_spark.spec import TuningSpec
from optuna_spark.worker import WorkerPayload


class DriverRun:
    """The driver's side of `coordination: driver`.

    Args:
        spec: The run.
        url: Storage URL of the study.
        bind: Address to listen on.
        host: The driver as the workers reach it.
    """

    def __init__(self, spec: TuningSpec, url: str, bind: str, host: str) -> None:
        self._spec, self._host = spec, host
        self._coordinator = Coordinator(spec, url, bind)

    def start(self) -> WorkerPayload:
        endpoint = self._coordinator.start()
        return WorkerPayload(self._spec.to_json(), driver=(self._host, endpoint.port), secret=endpoint.secret)

    def snapshot(self) -> Snapshot:
        return self._coordinator.snapshot()

    def watch(self, snapshot: Snapshot) -> None:
        """The coordinator stops by itself; this raises why it failed, if it did."""
        self._coordinator.raise_if_failed()

    def stop_reason(self) -> str | None:
        return self._coordinator.stop_reason()

    def finish(self) -> None:
        self._coordinator.finish()
        # The last write may have failed only now.
        self._coordinator.raise_if_failed()
