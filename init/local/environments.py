"""Builds virtual environments from hashed lock files, anew only if a lock or the Python has changed."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from init.local.console import run_step, say
from init.local.layout import Layout

# pyspark is pure Python, and published as source only. Nothing else is built on the user's machine.
BUILT_FROM_SOURCE = "pyspark"


@dataclass(frozen=True)
class Lock:
    """A lock file, and the environment that it is installed into."""

    title: str
    environment: Path
    file: Path

    @property
    def stamp(self) -> Path:
        return self.environment / f".installed-{self.file.stem}"

    def fingerprint(self) -> str:
        """A text that changes with the lock (not its comments), the Python, or the way of installing."""
        lines = [line for line in self.file.read_text().splitlines() if not line.lstrip().startswith("#")]
        digest = hashlib.sha256("\n".join(lines).encode())
        # Only major and minor version: environments survive a bug-fix release of their Python.
        digest.update(f"{sys.version_info[:2]}|{sys.base_prefix}|{BUILT_FROM_SOURCE}".encode())
        return digest.hexdigest()

    def installed(self) -> bool:
        python = self.environment / "bin" / "python"
        return python.exists() and self.stamp.exists() and self.stamp.read_text() == self.fingerprint()


def airflow_lock(layout: Layout) -> Lock:
    return Lock("the Airflow environment", layout.airflow_env, layout.requirements / "airflow.txt")


def spark_lock(layout: Layout, *, gpu: bool) -> Lock:
    file = layout.requirements / ("spark-gpu.txt" if gpu else "spark.txt")
    return Lock("the Spark environment", layout.spark_env, file)


def bench_lock(layout: Layout) -> Lock:
    """The peers that the benchmark compares with, in an environment of their own."""
    return Lock("the benchmark's peers", layout.bench_env, layout.requirements / "bench.txt")


def mlflow_lock(layout: Layout) -> Lock:
    """A tracking server for the tests of the mirror in MLflow."""
    return Lock("MLflow's server, for tests", layout.mlflow_env, layout.requirements / "mlflow.txt")


def audit_lock(layout: Layout) -> Lock:
    return Lock("the vulnerability check", layout.audit_env, layout.requirements / "audit.txt")


def s3_lock(layout: Layout) -> Lock:
    """The server that stands in for S3 in tests."""
    return Lock("the S3 server of the tests", layout.s3_env, layout.requirements / "s3.txt")


def docs_lock(layout: Layout) -> Lock:
    return Lock("the builder of the site", layout.docs_env, layout.requirements / "docs.txt")


def dev_lock(layout: Layout, environment: Path) -> Lock:
    """The test and lint tools, which are added to an environment."""
    return Lock(f"test tools in the {environment.name} environment", environment, layout.requirements / "dev.txt")


def build(layout: Layout, lock: Lock, *, copies: bool = False) -> bool:
    """Makes an environment anew unless it matches its lock.

    Args:
        layout: Where everything is.
        lock: The environment.
        copies: Whether it gets files of its own. Else they are links, and change a little (the count of links does)
            when another environment is made or removed.

    Returns:
        Whether it made it.
    """
    if lock.installed():
        return False
    say(f"installing {lock.title} (once)")
    log = layout.logs / f"install-{lock.environment.name}.log"
    log.unlink(missing_ok=True)
    make: list[str | Path] = [
        uv(layout),
        "venv",
        "--clear",
        "--relocatable",
        "--python",
        sys.executable,
        lock.environment,
    ]
    run_step(f"making {lock.title}", make, log=log, env=uv_environment())
    _install(layout, lock, log, ["--link-mode", "copy"] if copies else [])
    return True


def add(layout: Layout, lock: Lock) -> bool:
    """Adds the packages of a lock to an existing environment. Returns whether it had to."""
    if lock.installed():
        return False
    say(f"installing {lock.title} (once)")
    _install(layout, lock, layout.logs / f"install-{lock.file.stem}-{lock.environment.name}.log")
    return True


def _install(layout: Layout, lock: Lock, log: Path, options: Sequence[str] = ()) -> None:
    install: list[str | Path] = [uv(layout), "pip", "install", "--python", lock.environment, "--no-deps"]
    install += ["--require-hashes", "--only-binary", ":all:", "--no-binary", BUILT_FROM_SOURCE]
    # Compile bytecode now. Where Spark's Python processes may not write, each of them would compile it again.
    install += ["--compile-bytecode", "--build-constraints", layout.requirements / "build.txt"]
    install += [*options, "--requirements", lock.file]
    run_step(f"installing {lock.title}", install, log=log, env=uv_environment())
    lock.stamp.write_text(lock.fingerprint())


def uv(layout: Layout) -> Path:
    return layout.tools / "bin" / "uv"


def ensure_uv(layout: Layout) -> None:
    """Installs uv with pip from its own hashed lock; uv installs everything else."""
    lock = Lock("uv, the installer", layout.tools, layout.requirements / "uv.txt")
    if lock.installed():
        return
    say(f"installing {lock.title} (once)")
    log = layout.logs / "install-tools.log"
    run_step(f"making a folder for {lock.title}", [sys.executable, "-m", "venv", "--clear", layout.tools], log=log)
    # Not through the script `pip`: the first line of a script cannot name a path with a blank in it.
    pip: list[str | Path] = [layout.tools / "bin" / "python", "-m", "pip", "install"]
    pip += ["--require-hashes", "--only-binary", ":all:"]
    run_step(f"installing {lock.title}", [*pip, "--requirement", lock.file], log=log)
    lock.stamp.write_text(lock.fingerprint())


def uv_environment() -> dict[str, str]:
    """The present environment variables, without those of another project's virtual environment or uv settings."""
    dropped = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "PYTHONHOME")
    return {name: value for name, value in os.environ.items() if name not in dropped} | {"UV_NO_CONFIG": "1"}
