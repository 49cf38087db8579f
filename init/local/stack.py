"""The services of one checkout: installs, starts and stops them together."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass

from init.local import environments, machine, passwords, scratch
from init.local.console import detail, say
from init.local.layout import Layout
from init.local.log_server import LOG_SERVER
from init.local.mysql import MysqlServer
from init.local.processes import Service
from init.local.spark import SparkCluster, gpu_count, worker_cores, worker_memory_mib
from init.local.spark_conf import scratch_dir

# The process that restarts services (init.local.keeper).
KEEPER = "keeper"


@dataclass(frozen=True)
class Stack:
    """The services that a run needs: the Spark cluster, and a MySQL server if this machine has one."""

    layout: Layout
    secrets: dict[str, str]
    java_home: str | None
    gpus: int
    has_mysql: bool

    @property
    def mysql(self) -> MysqlServer:
        return MysqlServer(self.layout.state, self.secrets[passwords.DATABASE_ADMIN])

    @property
    def spark(self) -> SparkCluster:
        return SparkCluster(
            self.layout.state,
            self.layout.spark_env,
            cores=worker_cores(),
            memory_mib=worker_memory_mib(),
            gpus=self.gpus,
            java_home=self.java_home,
        )

    def ensure(self) -> None:
        """Starts the services that do not run."""
        if not any(Service(name, self.layout.state).running() for name in service_names(self.layout)):
            scratch.empty(self.layout.scratch)
        if not self.has_mysql:
            say("this machine has no MySQL server: the study is kept in SQLite (.state/optuna.sqlite3)")
        elif self.mysql.ensure():
            say(f"started a private MySQL server on 127.0.0.1:{self.mysql.port}")
        if self.spark.ensure():
            gpus = f", {self.gpus} GPUs" if self.gpus else ""
            say(
                f"started Spark {self.spark.master_url} ({self.spark.cores} cores{gpus}), web page {self.spark.web_url}"
            )


def install(layout: Layout, *, tests: bool = False) -> Stack:
    """Makes the machine ready for runs: system packages (with `tests` also those of tests), environments, secrets."""
    needs = machine.needs_of_tests() if tests else machine.needs_of_runs()
    has_mysql = machine.provide(layout.logs / "apt.log", needs)
    environments.ensure_uv(layout)
    environments.build(layout, environments.airflow_lock(layout))
    gpus = build_spark(layout)
    secrets = passwords.load_or_create(layout.state / "secrets.env")
    return Stack(layout, secrets, machine.java_home(), gpus, has_mysql)


def install_spark(layout: Layout) -> None:
    """Installs what a machine needs as a Spark master or worker, and no more."""
    machine.provide(layout.logs / "apt.log", machine.needs_of_spark())
    environments.ensure_uv(layout)
    build_spark(layout)


def build_spark(layout: Layout) -> int:
    """Builds the Spark environment, with cuDF if there are GPUs. Returns the number of GPUs."""
    gpus = gpus_to_use()
    lock = environments.spark_lock(layout, gpu=gpus > 0)
    if not lock.installed():
        # Spark's master and worker run from the folder that is about to be replaced.
        stop_services(layout)
    environments.build(layout, lock)
    return gpus


def gpus_to_use() -> int:
    """How many GPUs to use: all of this machine's, or none with TUNING_GPU=0."""
    return 0 if os.environ.get("TUNING_GPU") == "0" else gpu_count()


def stop_services(layout: Layout) -> list[str]:
    """Stops every process of this checkout, each before those that it uses. Returns their names."""
    order = {"airflow-api-server": 1, LOG_SERVER: 2, "spark-worker": 3, "spark-master": 4, "mysql": 5}
    # The keeper first, even before the others are listed: it may be about to restart one of them.
    stopped = [KEEPER] if Service(KEEPER, layout.state).stop() else []
    names = sorted(service_names(layout), key=lambda n: (order.get(n, 0), n))
    stopped += [name for name in names if Service(name, layout.state).stop(first=first_signal(name))]
    for folder in (layout.scratch, scratch_dir(layout.state)):
        scratch.empty(folder)
    return stopped


def service_names(layout: Layout) -> list[str]:
    """The names of processes that were started and not stopped. Some may have ended by themselves."""
    return [file.stem for file in (layout.state / "run").glob("*.pid")]


def first_signal(name: str) -> signal.Signals:
    """The signal to end a process with. `airflow dags test` ends its task on SIGINT, but ignores SIGTERM."""
    return signal.SIGINT if name.startswith("run-") else signal.SIGTERM


def stop(layout: Layout) -> None:
    stopped = stop_services(layout)
    say(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def clean(layout: Layout) -> None:
    """Stops everything, and removes all that was made here. Exports stay, because they are results."""
    stop(layout)
    shutil.rmtree(layout.state, ignore_errors=True)
    for name in (".mypy_cache", ".pytest_cache", ".ruff_cache"):
        shutil.rmtree(layout.root / name, ignore_errors=True)
    for top in ("dags", "plugins", "jobs", "init", "tests", "benchmarks"):
        for cache in (layout.root / top).rglob("__pycache__"):
            shutil.rmtree(cache, ignore_errors=True)
    say("removed .state and the caches")
    if layout.exports.exists():
        detail(f"kept the exports: {layout.exports}")
