"""Real servers for tests, each in a short-named folder of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from init.local.layout import REPOSITORY, Layout
from init.local.mysql import MysqlServer
from init.local.spark import SparkCluster

# Everything that breaks a password which is pasted into a URL, a format string or an SQL text.
HARD_PASSWORD = "p'w\"d% {x}@:/\\#"

TWO_GPUS = """#!/bin/sh
echo '{"name": "gpu", "addresses": ["0", "1"]}'
"""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder outside pytest's own: those are closed to the account a root's MySQL server runs under."""
    folder = Path(tempfile.mkdtemp(prefix="tuning-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def spark_environment() -> Path:
    return Path(os.environ.get("TUNING_SPARK_ENV", Layout(REPOSITORY).spark_env))


def s3_environment() -> Path:
    return Path(os.environ.get("TUNING_S3_ENV", Layout(REPOSITORY).s3_env))


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, as it was before afterwards."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


@contextmanager
def private_mysql(admin_password: str = HARD_PASSWORD, options: tuple[str, ...] = ()) -> Iterator[MysqlServer]:
    with scratch_folder() as folder:
        server = MysqlServer(folder, admin_password, die_with_parent=True, options=options)
        server.ensure()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def private_spark(cores: int = 4, gpus: int = 0) -> Iterator[SparkCluster]:
    """A master and a worker, and what this process starts may submit to them.

    With `gpus=2` the worker offers two GPUs that do not exist.
    """
    with scratch_folder() as folder:
        script = folder / "two gpus.sh"
        script.write_text(TWO_GPUS)
        script.chmod(0o755)
        cluster = SparkCluster(
            folder, spark_environment(), cores=cores, gpus=gpus, discovery_script=script, die_with_parent=True
        )
        cluster.ensure()
        try:
            with variable("SPARK_CONF_DIR", str(cluster.conf_dir)):
                yield cluster
        finally:
            cluster.stop()
