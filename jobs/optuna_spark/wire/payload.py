"""What a worker is started with, and what it reports when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.trial_callback import TrialCallback


@dataclass(frozen=True)
class WorkerPayload:
    """What a worker is started with. Spark carries it inside the task, never in argv or conf.

    Attributes:
        spec_json: The run's TuningSpec.
        run_key: Key of the run's claims.
        history: Trials the study held when the run started; part of the workers' seeds.
        storage_url: The database, when the workers coordinate through it.
        driver: Host and port of the driver, when it coordinates.
        secret: What proves to the driver that this is one of its workers.
        data_secrets: What opens the training table, where the worker reads it.
        callbacks: Whom the worker tells of its trials, when the workers coordinate through the database.
    """

    spec_json: str
    run_key: str = ""
    history: int = 0
    storage_url: str | None = field(default=None, repr=False)
    driver: tuple[str, int] | None = None
    secret: bytes = field(default=b"", repr=False)
    data_secrets: DataSecrets = field(default_factory=DataSecrets, repr=False)
    callbacks: tuple[TrialCallback, ...] = ()


@dataclass(frozen=True)
class WorkerReport:
    """How a worker ended.

    Attributes:
        index: Which worker, from 0.
        worker: host:pid.
        trials: Trials it ran.
        error: Why it ended early, if it did; one sentence for errors a user can cause.
        error_kind: Class name of that error.
    """

    index: int
    worker: str
    trials: int
    error: str | None = None
    error_kind: str | None = None
