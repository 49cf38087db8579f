"""The Spark session a run is made with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from optuna_spark.spec import TuningSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


def spark_session(spec: TuningSpec) -> SparkSession:
    """Connect to Spark, or take the session that is there (Databricks)."""
    from pyspark.sql import SparkSession

    log.info("[tuning] Connecting to Spark")
    spark = SparkSession.builder.appName(f"tune {spec.study_name}").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    log.info(
        "[tuning] Spark %s at %s, application %s",
        spark.version,
        spark.sparkContext.master,
        spark.sparkContext.applicationId,
    )
    if spark.sparkContext.uiWebUrl:
        log.info("[tuning] Spark UI while this runs: %s", spark.sparkContext.uiWebUrl)
    return spark
