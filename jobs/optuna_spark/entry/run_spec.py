"""The steps that both entries share: set up the log, run the spec, and report a failure."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from optuna_spark.entry.failure_report import describe_failure, write_failure
from optuna_spark.errors import TuningError
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.trial_callback import TrialCallback

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# Environment variable with the format of a log line. Airflow sets it, because its own log has a time in each line.
LAYOUT_VARIABLE = "TUNING_LOG_FORMAT"


def configure_logging() -> None:
    """Log to standard output: our own lines, and the libraries' warnings."""
    layout = os.environ.get(LAYOUT_VARIABLE, "%(asctime)s %(message)s")
    logging.basicConfig(level=logging.INFO, format=layout, stream=sys.stdout, force=True)
    for noisy in ("py4j", "optuna", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def exit_with_card(action: Callable[[], None]) -> None:
    """Run the action. If it fails, write the cause to the failure file, and exit with the cause as one line."""
    try:
        action()
    except Exception as error:
        failure = describe_failure(error)
        write_failure(failure)
        if not isinstance(error, TuningError):  # a TuningError says it all, others need their stack trace
            log.exception("The run failed")
        sys.stdout.flush()
        sys.exit(f"{failure['error']}: {failure['what']}")


def run_spec(
    spec: TuningSpec,
    url: str,
    spark: SparkSession | Callable[[], SparkSession] | None,
    secrets: DataSecrets | None = None,
    callbacks: Sequence[TrialCallback] = (),
) -> None:
    """Run the trials, and log the best value. The caller stops the session. Arguments as for `driver.run.tune`."""
    from optuna_spark.driver.run import tune

    best = tune(spec, url, spark, secrets, callbacks).snapshot
    if best.best_value is not None:
        log.info("[tuning] Best value %.10g in trial %s", best.best_value, best.best_number)
