"""The worker: a Spark task, or a plain process, that runs one trial after the other until none is left."""

from __future__ import annotations

import logging
import math
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from optuna import TrialPruned
from optuna.trial import TrialState

from optuna_spark.errors import TuningError, error_text
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.trial_callback import Callbacks
from optuna_spark.wire.messages import Outcome
from optuna_spark.wire.payload import WorkerPayload, WorkerReport
from optuna_spark.worker.driver_source import CoordinatorClient

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


class TrialSource(Protocol):
    """Where a worker gets its trials: from the driver, or from the database."""

    def ask(self) -> Any | None:
        """The next trial, with Optuna's Trial interface; None when no trial is left for this worker."""

    def tell(self, trial: Any, outcome: Outcome) -> None:
        """Store how a trial ended. It is durable before the next `tell` sends anything."""

    def close(self) -> None:
        """Leave the run. Safe to call twice."""


def run_worker(
    payload: WorkerPayload, index: int, addresses: Sequence[str] | None, table: pa.Table | None = None
) -> WorkerReport:
    """Run trials until none is left.

    Errors go into the report: one that left the task would reach the user as a Java stack trace of Spark's.

    Args:
        payload: The data that the worker is started with.
        index: Number of this worker, from 0.
        addresses: The GPU addresses that Spark gave the task; None if it gave none.
        table: The training table, if Spark read it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"{socket.gethostname()}:{os.getpid()}"
    done, quotes = 0, True  # quotes: whether errors may show text of the user's files
    try:
        spec = TuningSpec.from_json(payload.spec_json)
        quotes = spec.errors_may_quote
        objective = _objective(spec, addresses, table, payload.data_secrets)
        del table  # frees its memory for the trials, unless the objective still works on it
        source = _source(payload, spec, name)
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
    """Call the objective once. An exception becomes the outcome, as in `study.optimize`.

    Args:
        objective: The function to call.
        trial: Its argument.
        n_values: How many values it must return.
        quotes: Whether a failed trial may show the objective's own text. Without it, the error is only its class and
            the line that raised it.
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


def complete(result: object, n_values: int) -> Outcome:
    """The outcome of an objective that returned `result`.

    As in Optuna: the trial fails if that is not `n_values` numbers, or if one is NaN or larger than a float can be.
    Infinities are allowed. A text is no number, even where Python makes one of it.
    """
    raw = list(result) if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    if len(raw) != n_values:
        return failed(f"the objective must return {n_values} value(s), got {len(raw)}: {result!r}")
    try:
        values = tuple(float(v) for v in raw)  # type: ignore[arg-type]  # anything may come from a user's function
        has_nan = any(math.isnan(v) for v in raw)  # type: ignore[arg-type]  # refuses texts, which `float` takes
    except OverflowError:
        return failed("the objective must return a number that a float can hold, up to 1.8e308")
    except (TypeError, ValueError):
        return failed(f"the objective must return a number, got {result!r}")
    if has_nan:
        return failed(f"the objective must not return NaN, got {result!r}")
    return Outcome(TrialState.COMPLETE, values)


def failed(reason: str) -> Outcome:
    return Outcome(TrialState.FAIL, error=reason)


def error_place(error: BaseException) -> str:
    """An exception's class and place, without its text, which may quote a file whose path came from a run's form."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" in {last[0].filename}, line {last[0].lineno}" if last else ""
    return f"{type(error).__name__}{place} (the text is not shown, because this run's form gave data.path)"


def _objective(
    spec: TuningSpec, addresses: Sequence[str] | None, table: pa.Table | None, secrets: DataSecrets
) -> Callable[[Any], Any]:
    from optuna_spark.device import task_device

    device = task_device(spec.resources, addresses)
    return build_objective(ObjectiveContext(spec, device, table, secrets))


def _source(payload: WorkerPayload, spec: TuningSpec, name: str) -> TrialSource:
    if payload.driver is not None:
        return CoordinatorClient(payload.driver, payload.secret, name)
    # Imported here, because it loads SQLAlchemy. A worker that the driver coordinates starts sooner without.
    from optuna_spark.shared_study.shared_run import SharedRun
    from optuna_spark.worker.database_source import DatabaseSource

    assert payload.storage_url is not None  # each coordination sets either `driver` or `storage_url`
    callbacks = Callbacks(payload.callbacks)
    return DatabaseSource(SharedRun.open(spec, payload.storage_url, payload.run_key, callbacks), name)
