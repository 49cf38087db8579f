"""Trains the final model inside a Spark task, with what a trial of the study has: its table, its cores, its GPU."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna_spark.device import task_device
from optuna_spark.errors import TuningError, error_class, error_text
from optuna_spark.final_model.files import model_files
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import train_model
from optuna_spark.spec.model import ModelOrder
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

# Stands in place of a file's name before the error of a task that failed.
ERROR = ""


@dataclass(frozen=True)
class ModelTask:
    """Called in the task. Spark carries it there, never in argv or conf.

    Attributes:
        spec_json, order_json: The run and the order, as JSON.
        data_secrets: Logins of the training table, if the task reads it itself.
    """

    spec_json: str
    order_json: str
    data_secrets: DataSecrets = field(default_factory=DataSecrets, repr=False)

    def __call__(self, addresses: Sequence[str] | None, table: pa.Table | None) -> list[tuple[str, bytes]]:
        """The files of the model's folder; or the error, which would leave the task as a Java stack trace.

        Args:
            addresses: The GPU addresses that Spark gave the task; None if it gave none.
            table: The whole table, if Spark read it.
        """
        quotes = False
        try:
            spec, order = TuningSpec.from_json(self.spec_json), ModelOrder.from_json(self.order_json)
            quotes = spec.errors_may_quote
            context = ObjectiveContext(spec, task_device(spec.resources, addresses), table, self.data_secrets)
            return list(model_files(train_model(context, order), spec, order).items())
        except Exception as error:
            log.error("The final model failed", exc_info=quotes)
            told = {"kind": type(error).__name__, "text": _text(error, quotes)}
            return [(ERROR, json.dumps(told).encode())]


def _text(error: Exception, quotes: bool) -> str:
    if isinstance(error, TuningError):
        return str(error)
    return error_text(error) if quotes else type(error).__name__


def files_of(told: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """What a task returned, as files by name.

    Raises:
        TuningError: The task's error.
    """
    files = dict(told)
    if ERROR in files:
        error = json.loads(files[ERROR])
        raise error_class(error["kind"])(error["text"])
    return files
