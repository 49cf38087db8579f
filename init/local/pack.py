"""`make pack`: packs the Spark environment into one archive, which `spark-submit --archives` ships to workers.

The workers need the same Python and Spark as here, and nothing else. Use it as
`--archives .state/pack/environment.tar.gz#environment --conf spark.pyspark.python=./environment/bin/python`
"""

from __future__ import annotations

import shutil
from pathlib import Path

from init.local import environments
from init.local.console import detail, run_step, say
from init.local.environments import Lock
from init.local.layout import Layout

# A worker's Spark has these itself, and they are two thirds of the environment.
LEFT_OUT = ("*/pyspark/jars", "*/pyspark/examples", "*/pyspark/data", "*/pyspark/licenses", "__pycache__")


def pack(layout: Layout, *, gpu: bool) -> Path:
    """Builds the archive unless there is one for the present lock. Returns its path."""
    folder = layout.state / "pack"
    archive = folder / "environment.tar.gz"
    lock = Lock("the worker environment", folder / "environment", environments.spark_lock(layout, gpu=gpu).file)
    stamp = folder / "packed"
    if archive.exists() and stamp.exists() and stamp.read_text() == lock.fingerprint():
        say(f"up to date: {archive}")
        return archive
    folder.mkdir(exist_ok=True)
    environments.ensure_uv(layout)
    environments.build(layout, lock, copies=True)  # tar fails on a file that changes meanwhile
    say("packing the worker environment")
    compress(lock.environment, archive, layout.logs / "pack.log")
    shutil.rmtree(lock.environment)
    stamp.write_text(lock.fingerprint())
    detail(f"{archive} ({archive.stat().st_size / 2**20:.0f} MiB)")
    return archive


def compress(environment: Path, archive: Path, log: Path) -> None:
    new = archive.with_name("new-" + archive.name)
    excludes = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    # Compression level 1: the archive goes over a local network, so speed matters more than size.
    command = ["tar", "--create", "--use-compress-program=gzip -1", f"--file={new}", *excludes]
    run_step("packing", [*command, f"--directory={environment}", "."], log=log)
    new.replace(archive)
