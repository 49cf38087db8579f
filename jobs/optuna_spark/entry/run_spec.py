"""What both entries do with a run: log it, run it, and end with one card when it fails."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from optuna_spark.entry.failure_report import describe_failure, write_failure
from optuna_spark.errors import TuningError
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

# Layout of a log line, in logging's words: for whoever puts a time before each line himself.
LAYOUT_VARIABLE = "TUNING_LOG_FORMAT"


def configure_logging() -> None:
    """Our lines to standard output, the libraries' warnings with them."""
    layout = os.environ.get(LAYOUT_VARIABLE, "%(asctime)s %(message)s")
    logging.basicConfig(level=logging.INFO, format=layout, stream=sys.stdout, force=True)
    for noisy in ("py4j", "optuna", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def exit_with_card(action: Callable[[], None]) -> None:
    """Run the action; when it fails, leave its cause in the failure file and as the exit's one line."""
    try:
        action()
    except Exception as error:
        failure = describe_failure(error)
        write_failure(failure)
        if not isinstance(error, TuningError):
            log.exception("The run failed")
        sys.stdout.flush()
        sys.exit(f"{failure['error']}: {failure['what']}")


def run_spec(
    spec: TuningSpec,
    url: str,
    spark: SparkSession | Callable[[], SparkSession] | None,
    secrets: DataSecrets | None = None,
) -> None:
    """Run the trials and name the best one; whoever made the session stops it. Arguments as of `run.tune`."""
    from optuna_spark.driver.run import tune

    best = tune(spec, url, spark, secrets).snapshot
    if best.best_value is not None:
        log.info("[tuning] Best value %.10g in trial %s", best.best_value, best.best_number)
