"""The data that a worker is started with, and the report that it ends with."""

from __future__ import annotations

from dataclasses import dataclass, field

from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.trial_callback import TrialCallback


@dataclass(frozen=True)
class WorkerPayload:
    """The data that a worker is started with. Spark carries it inside the task, never in argv or conf.

    Attributes:
        spec_json: The run's TuningSpec as JSON.
        run_key: Key of this start of the run, with `coordination: database`.
        storage_url: The database, with `coordination: database`.
        driver: Host and port of the driver, with `coordination: driver`.
        secret: The run's secret, with which the worker proves to the driver that it belongs to the run.
        data_secrets: Logins and reader options of the training table, if the worker reads it itself.
        callbacks: Told of the worker's trials, with `coordination: database`.
    """

    spec_json: str
    run_key: str = ""
    storage_url: str | None = field(default=None, repr=False)
    driver: tuple[str, int] | None = None
    secret: bytes = field(default=b"", repr=False)
    data_secrets: DataSecrets = field(default_factory=DataSecrets, repr=False)
    callbacks: tuple[TrialCallback, ...] = ()


@dataclass(frozen=True)
class WorkerReport:
    """How a worker ended.

    Attributes:
        index: Number of the worker, from 0.
        worker: Its name, host:pid.
        trials: How many trials it ran.
        error: Why it ended early, None if it did not. One sentence for an error that a user can cause.
        error_kind: Class name of that error.
    """

    index: int
    worker: str
    trials: int
    error: str | None = None
    error_kind: str | None = None
