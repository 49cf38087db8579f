"""A run the driver coordinates: the Coordinator as `run.tune` uses it."""

from __future__ import annotations

from optuna_spark.driver.coordinator import Coordinator
from optuna_spark.driver.progress import Snapshot
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload


class DriverRun:
    """The driver's side of `coordination: driver`.

    Args:
        spec: The run.
        url: Storage URL of the study.
    """

    def __init__(self, spec: TuningSpec, url: str) -> None:
        self._spec = spec
        self._coordinator = Coordinator(spec, url)

    def open(self) -> None:
        self._coordinator.open()

    def start(self, bind: str, host: str) -> WorkerPayload:
        endpoint = self._coordinator.start(bind)
        return WorkerPayload(self._spec.to_json(), driver=(host, endpoint.port), secret=endpoint.secret)

    def snapshot(self) -> Snapshot:
        return self._coordinator.snapshot()

    def watch(self, snapshot: Snapshot) -> None:
        """The coordinator stops by itself; this raises why it failed, if it did."""
        self._coordinator.raise_if_failed()

    def stop_reason(self) -> str | None:
        return self._coordinator.stop_reason()

    def stop(self, reason: str) -> None:
        self._coordinator.stop(reason)

    def finish(self) -> None:
        self._coordinator.finish()
        # The last write may have failed only now.
        self._coordinator.raise_if_failed()
