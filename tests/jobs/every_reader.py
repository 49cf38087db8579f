"""Submitted by a test: reads one file with every reader, in one Spark application, and prints each run's card."""

from __future__ import annotations

import json
import os
import sys

from optuna_spark.distribution.spark_session import spark_session
from optuna_spark.entry.failure_report import describe_failure
from optuna_spark.entry.run_spec import configure_logging, run_spec
from optuna_spark.spec.tuning import TuningSpec


def main(specs: list[str]) -> None:
    configure_logging()
    runs = [TuningSpec.from_json(text) for text in specs]
    spark = spark_session(runs[0])
    for spec in runs:
        spark.sparkContext.setLogLevel("ERROR")  # as after spark_session
        try:
            run_spec(spec, os.environ["OPTUNA_STORAGE_URL"], spark)
            card = {"error": "none"}
        except Exception as error:  # noqa: BLE001  # it is shown
            card = describe_failure(error)
        print(f"card of {spec.run_id}: {json.dumps(card)}")  # noqa: T201
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
