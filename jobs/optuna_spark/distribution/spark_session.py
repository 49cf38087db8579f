"""The Spark session of a run, with properties that hide secrets and let workers start sooner."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna_spark.distribution.python_daemon import IMPORTS_VARIABLE, without_zipped_pyspark
from optuna_spark.distribution.spark_errors import readable_settings
from optuna_spark.objectives.registry import kind_of
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

DAEMON = "optuna_spark_daemon"
REDACTION_RULE = "spark.redaction.regex"
# Spark's default for it: https://spark.apache.org/docs/4.1.0/configuration.html#runtime-environment
SPARKS_RULE = "(?i)secret|password|token|access[.]?key"
QUICK_START = {
    # Turns off Java's optimising compiler, which would take the CPUs at the start, and the collections that Java makes
    # while the space for classes grows. The user's spark.executor.extraJavaOptions come after these, so they win.
    "spark.executor.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:MetaspaceSize=128m",
    # Broadcasts are a few kilobytes here. To decompress them, an executor would first load a native library.
    "spark.broadcast.compress": "false",
}


def spark_session(spec: TuningSpec, secret_conf: Mapping[str, str] | None = None) -> SparkSession:
    """Connect to Spark, or take the session that exists (on Databricks).

    Args:
        spec: The run.
        secret_conf: Spark properties that hold secrets. No page, log or event log of Spark shows them.
    """
    sys.path[:] = without_zipped_pyspark(sys.path)
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    log.info("[tuning] Connecting to Spark")
    name, submitted = f"tune {spec.study_name}", submitted_conf()
    early = early_imports(spec, submitted)
    settings = early | quick_start(spec, submitted)
    if secret_conf:
        settings = {**settings, **secret_conf, **redaction(secret_conf, submitted)}
    conf = SparkConf().setAppName(name).setAll(list(settings.items()))
    # Workers of a DataFrame are forked by another daemon than those of an RDD.
    with readable_settings((secret_conf or {}).values()):
        if early and spec.distribution != "dataframe":
            wake_executors(SparkContext.getOrCreate(conf))
        spark = SparkSession.builder.appName(name).config(map={**settings}).getOrCreate()
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


def redaction(secret_conf: Mapping[str, str], conf: Mapping[str, str]) -> dict[str, str]:
    """The Spark property that hides other properties, by their names, in Spark's pages, logs and event log.

    Args:
        secret_conf: The properties to hide.
        conf: The properties of the submission. A rule of the user's still holds.
    """
    rule = conf.get(REDACTION_RULE, SPARKS_RULE)
    # Spark also shows Hadoop's configuration, where the names have no prefix.
    names = sorted({re.escape(name.removeprefix("spark.hadoop.")) for name in secret_conf})
    return {REDACTION_RULE: rf"(?:{rule})|(?:^|\.)(?:{'|'.join(names)})$"}


def wake_executors(context: SparkContext) -> threading.Thread:
    """Start the first executor's Python, and warm up the driver's scheduler, while the session is being made.

    It runs an empty task in a thread of its own, so the run's tasks do not wait for it.
    """

    def run_empty_task() -> None:
        with contextlib.suppress(Exception):  # the run's own tasks fail for the same reason, and tell it
            context.parallelize([0], 1).foreach(lambda _: None)

    thread = threading.Thread(target=run_empty_task, name="wake", daemon=True)
    thread.start()
    return thread


def submitted_conf() -> dict[str, str]:
    """The Spark properties given to spark-submit; empty if spark-submit did not start this process.

    Spark's own API shows them only once there is a session, when it is too late to add any.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    from pyspark import java_gateway

    launch: Callable[[], Any] = java_gateway.launch_gateway
    properties = launch().jvm.org.apache.spark.SparkConf().getAll()
    return {pair._1(): pair._2() for pair in properties}


def early_imports(spec: TuningSpec, conf: Mapping[str, str]) -> dict[str, str]:
    """Spark properties that let the executors import what workers need before they fork them (python_daemon.py).

    None if the user chose a daemon, or on other clusters than a standalone one: the daemon must start in a folder that
    holds the application's files.

    Args:
        spec: The run.
        conf: The properties of the submission.
    """
    if not conf.get("spark.master", "").startswith("spark://") or "spark.python.daemon.module" in conf:
        return {}
    files = [file for file in conf.get("spark.files", "").split(",") if file]
    return {
        "spark.python.daemon.module": DAEMON,
        "spark.files": ",".join([*files, str(_daemon_file())]),
        f"spark.executorEnv.{IMPORTS_VARIABLE}": ",".join(modules_to_import(spec)),
    }


def quick_start(spec: TuningSpec, conf: Mapping[str, str]) -> dict[str, str]:
    """Spark properties that let executors start sooner.

    None if the executors' Java reads the table, because then it needs its optimising compiler. Properties that the user
    has set are left out.

    Args:
        spec: The run.
        conf: The properties of the submission. Empty means that executors run already, so nothing is set.
    """
    reads = spec.distribution == "dataframe" and spec.data is not None
    if not conf or reads:
        return {}
    return {name: value for name, value in QUICK_START.items() if name not in conf}


def modules_to_import(spec: TuningSpec) -> list[str]:
    """The modules that the run's workers need and that survive a fork; for python_daemon.import_early.

    pyarrow starts one thread, that of its memory allocator, which starts again after a fork:
    https://github.com/jemalloc/jemalloc/blob/5.3.0/src/background_thread.c (background_thread_postfork_child).
    """
    # encodings.idna: opening a connection loads the codec of host names, even for a numeric address.
    started_by = "dataframe" if spec.distribution == "dataframe" else "spark_tasks"
    modules = [
        f"optuna_spark.distribution.{started_by}",
        "optuna_spark.device",
        "optuna_spark.objectives.custom",
        "encodings.idna",
    ]
    modules += kind_of(spec.objective).early_imports(spec)
    if spec.distribution == "joblib":
        modules += ["joblib"]
    if spec.distribution == "dataframe":
        modules += ["pyspark.sql.pandas.serializers", "pyspark.sql.pandas.types", "pyarrow"]
    if spec.coordination == "database":
        modules += ["optuna_spark.worker.database_source:rehearse", "sqlalchemy.dialects.mysql.pymysql", "pymysql"]
    return modules


def _daemon_file() -> Path:
    """A copy of python_daemon.py as a file of its own: this package may be inside a zip."""
    folder = Path(tempfile.mkdtemp(prefix="optuna-spark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / f"{DAEMON}.py"
    file.write_text(resources.files("optuna_spark.distribution").joinpath("python_daemon.py").read_text())
    return file
