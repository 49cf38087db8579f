"""The Spark session a run is made with."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna_spark.distribution.python_daemon import IMPORTS_VARIABLE
from optuna_spark.objectives.registry import kind_of
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

DAEMON = "optuna_spark_daemon"
REDACTION_RULE = "spark.redaction.regex"
# Its default: https://spark.apache.org/docs/4.1.0/configuration.html#runtime-environment
SPARKS_RULE = "(?i)secret|password|token|access[.]?key"
QUICK_START = {
    # Without Java's slow compiler, which would take the CPUs first, and without collections for the sake of the space
    # that loading classes takes. Come before those of spark.executor.extraJavaOptions, which win.
    "spark.executor.defaultJavaOptions": "-XX:TieredStopAtLevel=1 -XX:MetaspaceSize=128m",
    # What is sent is a few kilobytes; to unpack them an executor would load a native library.
    "spark.broadcast.compress": "false",
}


def spark_session(spec: TuningSpec, secret_conf: Mapping[str, str] | None = None) -> SparkSession:
    """Connect to Spark, or take the session that is there (Databricks).

    Args:
        spec: The run.
        secret_conf: Spark properties that no page, log or event log of Spark may show.
    """
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    log.info("[tuning] Connecting to Spark")
    name, submitted = f"tune {spec.study_name}", submitted_conf()
    early = early_imports(spec, submitted)
    settings = early | quick_start(spec, submitted)
    if secret_conf:
        settings = {**settings, **secret_conf, **redaction(secret_conf, submitted)}
    conf = SparkConf().setAppName(name).setAll(list(settings.items()))
    if early and spec.distribution != "dataframe":  # whose workers are another daemon's
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
    """Spark properties that keep others out of Spark's pages, logs and event log, by their names.

    Args:
        secret_conf: The properties to hide.
        conf: The properties of the submission, whose own rule stays.
    """
    rule = conf.get(REDACTION_RULE, SPARKS_RULE)
    # Hadoop's configuration is shown too, there without the prefix.
    names = sorted({re.escape(name.removeprefix("spark.hadoop.")) for name in secret_conf})
    return {REDACTION_RULE: rf"(?:{rule})|(?:^|\.)(?:{'|'.join(names)})$"}


def wake_executors(context: SparkContext) -> threading.Thread:
    """Have the first executor start its Python, and the driver learn to send tasks, while the session is being made.

    An empty task of its own, which the run's tasks need not wait for. What fails here fails in the run again, which
    says why.
    """

    def run_empty_task() -> None:
        with contextlib.suppress(Exception):
            context.parallelize([0], 1).foreach(lambda _: None)

    thread = threading.Thread(target=run_empty_task, name="wake", daemon=True)
    thread.start()
    return thread


def submitted_conf() -> dict[str, str]:
    """The Spark properties spark-submit was given; empty where Python was not started by it.

    Spark itself tells only once there is a session, too late to add any.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    from pyspark import java_gateway

    launch: Callable[[], Any] = java_gateway.launch_gateway
    properties = launch().jvm.org.apache.spark.SparkConf().getAll()
    return {pair._1(): pair._2() for pair in properties}


def early_imports(spec: TuningSpec, conf: Mapping[str, str]) -> dict[str, str]:
    """Spark properties that make the executors import what workers need before they fork them (python_daemon.py).

    Only where the executors' folder holds the application's files and is where their Python starts, which is so on a
    standalone cluster, and where nobody chose another daemon.

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
    """Spark properties of executors that begin sooner.

    Not where their Java reads the table, nor what somebody chose otherwise.

    Args:
        spec: The run.
        conf: The properties of the submission; empty where there was none, and executors are there already.
    """
    reads = spec.distribution == "dataframe" and spec.data is not None
    if not conf or reads:
        return {}
    return {name: value for name, value in QUICK_START.items() if name not in conf}


def modules_to_import(spec: TuningSpec) -> list[str]:
    """What the run's workers need and what survives a fork, which CUDA does not; see python_daemon.import_early.

    Importing pyarrow starts one thread, that of its memory allocator, which makes itself anew after a fork:
    https://github.com/jemalloc/jemalloc/blob/5.3.0/src/background_thread.c (background_thread_postfork_child).
    """
    # A connection to a host looks for the codec of host names, also where the host is a number.
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
    """python_daemon.py as a module of its own, wherever this package was imported from."""
    folder = Path(tempfile.mkdtemp(prefix="optuna-spark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / f"{DAEMON}.py"
    file.write_text(resources.files("optuna_spark.distribution").joinpath("python_daemon.py").read_text())
    return file
