"""Submits jobs/tune.py to a Spark cluster by hand, as docs/without_airflow.md tells a user to."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from init.local.layout import REPOSITORY
from tests.support.programs import run_program
from tests.support.servers import spark_environment

SUBMIT = REPOSITORY / "init" / "spark" / "bin" / "spark-submit"
TUNE = REPOSITORY / "jobs" / "tune.py"
SAMPLES = REPOSITORY / "tests" / "jobs" / "sample_objectives.py"

QUICK_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
SMALL = {
    "spark.ui.enabled": "false",
    "spark.executor.memory": "512m",
    "spark.driver.extraJavaOptions": QUICK_JVM,
    "spark.executor.extraJavaOptions": QUICK_JVM,
}


def pack_package(folder: Path) -> Path:
    """The job's package as the zip that travels with --py-files."""
    archive = folder / "optuna_spark.zip"
    jobs = REPOSITORY / "jobs"
    with zipfile.ZipFile(archive, "w") as file:
        for source in sorted((jobs / "optuna_spark").rglob("*.py")):
            file.write(source, source.relative_to(jobs))
        file.write(SAMPLES, SAMPLES.name)
    return archive


def submit_command(
    master_url: str, folder: Path, arguments: Sequence[str], conf: Mapping[str, str], program: Path = TUNE
) -> list[str]:
    options = {**SMALL, **conf}
    confs = [part for name, value in options.items() for part in ("--conf", f"{name}={value}")]
    package = pack_package(folder)
    return [str(SUBMIT), "--master", master_url, *confs, "--py-files", str(package), str(program), *arguments]


def submit_environment(**extra: str) -> dict[str, str]:
    return {
        **os.environ,
        "TUNING_SPARK_ENV": str(spark_environment()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "TUNING_SPARK_ENVIRONMENT": " ".join(extra),
        **extra,
    }


def submit(
    master_url: str,
    folder: Path,
    arguments: Sequence[str],
    conf: Mapping[str, str] | None = None,
    program: Path = TUNE,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Runs the job, or another program that uses its package, to its end; stdout and stderr together in `stdout`."""
    command = submit_command(master_url, folder, arguments, conf or {}, program)
    return run_program(command, env=submit_environment(**environment), code=None, together=True, seconds=900)
