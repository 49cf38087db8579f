"""Trains the final model from the driver: one task on the cluster, which is watched until it has ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from optuna_spark.distribution.one_task import run_in_one_task
from optuna_spark.driver.ending import ENDING
from optuna_spark.driver.progress import PREFIX
from optuna_spark.driver.waiting import Waiting
from optuna_spark.final_model.task import ModelTask, files_of
from optuna_spark.objectives.registry import check_objective
from optuna_spark.shown import duration
from optuna_spark.spec.model import ModelOrder
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

LOOK_S = 3.0
# How long a task may take to end that was cancelled.
LEAVE_S = 10.0


def train_final_model(
    spec: TuningSpec,
    order: ModelOrder,
    folder: Path,
    spark: Callable[[], SparkSession] | None = None,
    secrets: DataSecrets | None = None,
) -> None:
    """Train the model that a study's best trial orders, and write its files.

    Args:
        spec: The run.
        order: The best trial.
        folder: An empty folder for the files; made if it is not there.
        spark: Makes the session; None only for the `local` distribution.
        secrets: The contents of the Airflow connection that `data.connection` names.

    Raises:
        ModelError: The model cannot be trained, scored or saved.
        ResourcesError: No worker has what the task needs.
        RunEndedError: SIGTERM came.
        TuningError: The spec, the data or the device cannot be used.
    """
    check_objective(spec)
    started = time.monotonic()
    with ENDING.during_a_run():
        session = spark() if spark is not None else None
        log.info("%s Training the final model of study %s from trial %s", PREFIX, spec.study_name, order.trial)
        task = ModelTask(spec.to_json(), order.to_json(), secrets or DataSecrets())
        job = _Job(lambda: run_in_one_task(spec, session, secrets or DataSecrets(), task))
        try:
            waiting = None if session is None else Waiting(session.sparkContext, spec.wait_for_resources_s)
            while not job.wait(LOOK_S):
                if waiting is not None:
                    waiting.look()
        except BaseException:
            with ENDING.tidying():
                if session is not None:
                    _cancel(session)
                job.wait(LEAVE_S)
            raise
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files_of(job.result()).items():
        (folder / name).write_bytes(content)
    log.info("%s Final model done in %s", PREFIX, duration(time.monotonic() - started))


def _cancel(session: SparkSession) -> None:
    try:
        session.sparkContext.cancelAllJobs()
    except Exception as error:  # noqa: BLE001  # Spark's Java may be gone already, and its jobs with it
        log.info("%s Spark had ended before: %s", PREFIX, type(error).__name__)


class _Job(threading.Thread):
    """Runs the Spark job, which blocks, while the main thread watches it."""

    def __init__(self, run: Callable[[], list[tuple[str, bytes]]]) -> None:
        super().__init__(daemon=True, name="final-model")
        self._run_job = run
        self._found: list[tuple[str, bytes]] = []
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._found = self._run_job()
        except Exception as error:  # noqa: BLE001  # raised again in the main thread
            self._error = error

    def wait(self, timeout_s: float) -> bool:
        self.join(timeout_s)
        return not self.is_alive()

    def result(self) -> list[tuple[str, bytes]]:
        if self._error is not None:
            raise self._error
        return self._found
