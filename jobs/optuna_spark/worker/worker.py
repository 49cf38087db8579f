"""The worker: one Spark task (or plain process) that pulls trials until the run's budget is spent."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna import TrialPruned
from optuna.trial import TrialState

from optuna_spark.errors import TuningError
from optuna_spark.objectives import ObjectiveContext, build_objective
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.worker.driver_source import CoordinatorClient
from optuna_spark.worker.outcome import Outcome, TrialSource, complete, error_place, error_text, failed

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


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
    """

    spec_json: str
    run_key: str = ""
    history: int = 0
    storage_url: str | None = field(default=None, repr=False)
    driver: tuple[str, int] | None = None
    secret: bytes = field(default=b"", repr=False)
    data_secrets: DataSecrets = field(default_factory=DataSecrets, repr=False)


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


def run_worker(
    payload: WorkerPayload, index: int, addresses: Sequence[str] | None, table: pa.Table | None = None
) -> WorkerReport:
    """Run trials until none is left. Errors end up in the report, so that Spark shows no Java stack for them.

    Args:
        payload: The run.
        index: Which worker this is, from 0.
        addresses: The GPU addresses Spark gave the task; None when it gave none.
        table: The training table, when Spark read it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"{socket.gethostname()}:{os.getpid()}"
    done, quotes = 0, True
    try:
        spec = TuningSpec.from_json(payload.spec_json)
        quotes = spec.errors_may_quote
        objective = _objective(spec, addresses, table, payload.data_secrets)
        del table  # trials need the memory; an objective that works on the table keeps it
        source = _source(payload, spec, index, name)
        try:
            while (trial := source.ask()) is not None:
                source.tell(trial, run_trial(objective, trial, len(spec.directions), quotes=quotes))
                done += 1
        finally:
            source.close()
    except Exception as error:
        text = str(error) if isinstance(error, TuningError) else error_text(error) if quotes else error_place(error)
        log.error("Worker %s ended early%s", name, "" if quotes else f": {text}", exc_info=quotes)
        return WorkerReport(index, name, done, text, type(error).__name__)
    return WorkerReport(index, name, done)


def run_trial(objective: Callable[[Any], Any], trial: Any, n_values: int, *, quotes: bool = True) -> Outcome:
    """Call the objective once; whatever it raises becomes the outcome, as in `study.optimize`.

    Without `quotes` a failed trial says what happened and where, and nothing that the objective said.
    """
    try:
        outcome = complete(objective(trial), n_values)
        said_nothing = failed(f"the objective must return {n_values} number(s)")
        return outcome if quotes or outcome.state != TrialState.FAIL else said_nothing
    except TrialPruned:
        return Outcome(TrialState.PRUNED)
    except Exception as error:  # noqa: BLE001  # the objective is the user's; its failure is a trial's outcome
        log.warning("Trial %s failed: %s", trial.number, error if quotes else type(error).__name__)
        return failed(error_text(error) if quotes else error_place(error))


def _objective(
    spec: TuningSpec, addresses: Sequence[str] | None, table: pa.Table | None, secrets: DataSecrets
) -> Callable[[Any], Any]:
    from optuna_spark.device import task_device

    device = task_device(spec.resources, addresses)
    return build_objective(ObjectiveContext(spec, device, table, secrets))


def _source(payload: WorkerPayload, spec: TuningSpec, index: int, name: str) -> TrialSource:
    if payload.driver is not None:
        return CoordinatorClient(payload.driver, payload.secret, name)
    # Brings SQLAlchemy, which a worker of the driver's needs not wait for.
    from optuna_spark.worker.database_source import DatabaseSource, StoredStudy

    assert payload.storage_url is not None  # run.py sets one of the two
    seed = None if spec.seed is None else worker_seed(spec.seed, payload.history, index)
    return DatabaseSource(StoredStudy.join(spec, payload.storage_url, payload.run_key, seed), name)


def worker_seed(seed: int, history: int, index: int) -> int:
    """A seed of its own for each worker and each further run: equal seeds give equal suggestions.

    Args:
        seed: The spec's.
        history: Trials the study held when the run started.
        index: Which worker, from 0.
    """
    import numpy as np

    return int(np.random.SeedSequence([seed, history, index]).generate_state(1)[0])
