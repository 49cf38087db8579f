"""The servers that contenders run on: a private MySQL server and a real Spark cluster. Leaves nothing running."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sqlalchemy

from benchmarks.contenders.report import RESULT_VARIABLE, URL_VARIABLE
from benchmarks.workload import TIMES_VARIABLE
from init.local.layout import REPOSITORY, Layout
from init.local.mysql import MysqlServer
from init.local.spark import SparkCluster, spark_home
from tests.support.servers import private_mysql, private_spark, scratch_folder, spark_environment

SUBMIT = REPOSITORY / "init" / "spark" / "bin" / "spark-submit"
CONTENDERS = REPOSITORY / "benchmarks" / "contenders"
TOKEN_VARIABLE = "BENCH_TOKEN"  # noqa: S105 - marks the processes of one contender
BENCH_ENV = Layout(REPOSITORY).bench_env
QUIET_S = 30.0  # how long a cluster may take to free the cores of a contender
# The same for every contender that uses Spark. The web page is off, because its cost is not what is measured.
SPARK_CONF = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "WARN",
    "spark.executor.memory": "1g",
}


@dataclass(frozen=True)
class Outcome:
    """The result of one run of a contender.

    Attributes:
        measured: What it reported; empty if it was stopped.
        times: Start and end of each trial, in seconds since 1970.
        whole_s: Seconds from the start to the end of its first process.
        timed_out: Whether it was stopped at its time limit.
    """

    measured: dict[str, Any] = field(default_factory=dict)
    times: list[tuple[float, float]] = field(default_factory=list)
    whole_s: float = 0.0
    timed_out: bool = False

    @property
    def window_s(self) -> float:
        """Seconds from the first trial's start to the last one's end."""
        return max(end for _, end in self.times) - min(start for start, _ in self.times)

    def start_up(self, slots: int) -> dict[str, float]:
        """Seconds until the first trial began, and until as many trials had begun as there are slots."""
        since = sorted(start - self.measured["ready"] for start, _ in self.times)
        return {"first_trial_s": since[0], "all_slots_s": since[min(slots, len(since)) - 1]} if since else {}


class ContenderError(Exception):
    """A contender failed. The text ends with the last lines of its log."""


@dataclass(frozen=True)
class Machine:
    """The servers of one benchmark, and how contenders are started on them."""

    folder: Path
    mysql: MysqlServer
    logs: Path

    def lane(self, number: int) -> Machine:
        """The same servers, with files and logs of its own, for a contender that runs at the same time as others."""
        lane = replace(self, folder=self.folder / f"lane{number}", logs=self.logs / f"lane{number}")
        for folder in (lane.folder, lane.logs):
            folder.mkdir(exist_ok=True)
        return lane

    def new_database(self) -> sqlalchemy.URL:
        """Make an empty database, and return its URL."""
        name = f"bench_{secrets.token_hex(4)}"
        with self._engine().connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
        return self.url(name)

    def copy_database(self, source: sqlalchemy.URL) -> sqlalchemy.URL:
        """Make a database with the tables and rows of another one, and return its URL."""
        target = self.new_database()
        with self._engine().begin() as connection:
            connection.execute(sqlalchemy.text("SET FOREIGN_KEY_CHECKS = 0"))
            tables = connection.execute(sqlalchemy.text(f"SHOW TABLES IN {source.database}")).scalars().all()
            for table in tables:
                old, new = f"{source.database}.{table}", f"{target.database}.{table}"
                # Not CREATE TABLE ... LIKE, which leaves out the foreign keys.
                create = connection.execute(sqlalchemy.text(f"SHOW CREATE TABLE {old}")).one()[1]
                connection.execute(sqlalchemy.text(f"USE {target.database}"))
                connection.exec_driver_sql(create.replace("%", "%%"))
                connection.execute(sqlalchemy.text(f"INSERT INTO {new} SELECT * FROM {old}"))  # noqa: S608 - own names
        return target

    def url(self, database: str = "") -> sqlalchemy.URL:
        server = self.mysql
        return sqlalchemy.URL.create(
            "mysql+pymysql", server.admin_user, server.admin_password, server.host, server.port, database
        )

    def _engine(self) -> sqlalchemy.Engine:
        return sqlalchemy.create_engine(self.url(), poolclass=sqlalchemy.NullPool)

    def run(
        self,
        contender: str,
        arguments: Sequence[str],
        *,
        url: sqlalchemy.URL | None = None,
        timeout_s: float,
        python: Path | None = None,
        submit: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a contender to its end, and leave none of its processes behind.

        Args:
            contender: Name of a module in benchmarks.contenders.
            arguments: Its arguments.
            url: The database that it uses.
            timeout_s: It is stopped after this many seconds.
            python: Its interpreter; by default that of the Spark environment.
            submit: Options of spark-submit; empty for a program that does not use Spark.
            variables: Further variables of its environment.

        Raises:
            ContenderError: The contender failed.
        """
        python = python or spark_environment() / "bin" / "python"
        program = str(CONTENDERS / f"{contender}.py")
        command = [str(SUBMIT), *submit, program] if submit else [str(python), program]
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        self.times.unlink(missing_ok=True)
        token = secrets.token_hex(8)
        variables = {TIMES_VARIABLE: str(self.times), **(variables or {})}
        env = contender_environment(python, token, result, url, variables)
        log = self.logs / f"{contender}.log"
        with log.open("ab") as output:
            output.write(f"--- {time.ctime()} {contender} {' '.join(arguments)[:200]}\n".encode())
            started = time.monotonic()
            process = subprocess.Popen([*command, *arguments], env=env, stdout=output, stderr=output, cwd=self.folder)
            try:
                code: int | None = process.wait(timeout_s)
                whole_s = time.monotonic() - started
            except subprocess.TimeoutExpired:
                code = None
            finally:
                # All of its processes, also those that have left its process group, such as Spark's Java.
                end_marked(token)
                process.wait()
        if code is None:
            return Outcome(timed_out=True)
        if code != 0 or not result.exists():
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ContenderError(f"{contender} failed with exit code {code}; the end of {log}:\n{last}")
        return Outcome(json.loads(result.read_text()), read_times(self.times), whole_s)

    @property
    def times(self) -> Path:
        """The file into which the trials of a run write their start and end."""
        return self.folder / "times"

    def package(self) -> Path:
        """A zip for the Spark workers, with this project's package and the benchmark's workload."""
        archive = self.folder / "bench.zip"
        jobs = REPOSITORY / "jobs"
        sources = [(file, file.relative_to(jobs)) for file in sorted((jobs / "optuna_spark").rglob("*.py"))]
        bench = REPOSITORY / "benchmarks"
        names = ["__init__.py", "workload.py", "contenders/__init__.py", "contenders/report.py"]
        sources += [(bench / name, Path("benchmarks") / name) for name in names]
        with zipfile.ZipFile(archive, "w") as file:
            for source, name in sources:
                file.write(source, name)
        return archive


def read_times(file: Path) -> list[tuple[float, float]]:
    lines = file.read_text().splitlines() if file.exists() else []
    return [(float(start), float(end)) for start, end in map(str.split, lines)]


def contender_environment(
    python: Path, token: str, result: Path, url: sqlalchemy.URL | None, variables: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a contender, with `variables`. The password of its database is only here."""
    dropped = ("PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP")
    kept = {name: value for name, value in os.environ.items() if name not in dropped and not name.startswith("AIRFLOW")}
    env = kept | {
        "TUNING_SPARK_ENV": str(spark_environment()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        # Our spark-submit passes on few variables. These are the further ones that contenders need.
        "TUNING_SPARK_ENVIRONMENT": " ".join([TOKEN_VARIABLE, RESULT_VARIABLE, URL_VARIABLE, *variables]),
        "SPARK_HOME": str(spark_home(spark_environment())),
        "PYSPARK_PYTHON": str(python),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "jobs")]),
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
        TOKEN_VARIABLE: token,
        RESULT_VARIABLE: str(result),
        **variables,
    }
    return env if url is None else env | {URL_VARIABLE: url.render_as_string(hide_password=False)}


def marked(token: str) -> list[int]:
    """The processes with this token in their environment: those of one contender, whichever process started them."""
    mark, found = f"{TOKEN_VARIABLE}={token}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def end_marked(token: str) -> None:
    """End the processes that a contender left running: with SIGTERM, then with SIGKILL."""
    for number, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        pids = marked(token)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while marked(token) and time.monotonic() < deadline:
            time.sleep(0.2)


class Cluster:
    """A Spark cluster of one node. Trials that only sleep allow it more slots than the machine has cores."""

    def __init__(self, machine: Machine, cluster: SparkCluster) -> None:
        self._machine, self._cluster = machine, cluster
        self.folder = cluster.state

    def run(
        self,
        contender: str,
        arguments: Sequence[str],
        *,
        slots: int,
        url: sqlalchemy.URL | None = None,
        timeout_s: float,
        python: Path | None = None,
        conf: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Outcome:
        """`Machine.run` through spark-submit, with `slots` cores. Waits until the cluster is idle again."""
        settings = {**SPARK_CONF, "spark.cores.max": str(slots), **(conf or {})}
        settings[f"spark.executorEnv.{TIMES_VARIABLE}"] = str(self._machine.times)
        options = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
        submit = ["--master", self._cluster.master_url, *options, "--py-files", str(self._machine.package())]
        try:
            return self._machine.run(
                contender, arguments, url=url, timeout_s=timeout_s, python=python, submit=submit, variables=variables
            )
        finally:
            self._wait_until_idle()

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + QUIET_S
        while self._cores_used() and time.monotonic() < deadline:
            time.sleep(0.2)

    def _cores_used(self) -> int:
        # Without a proxy, which the environment may name: it could not reach this machine's loopback.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self._cluster.web_url}/json/", timeout=10) as answer:
            return int(json.load(answer)["coresused"])


@contextmanager
def machine(logs: Path) -> Iterator[Machine]:
    """A MySQL server and a folder, which are gone after the block."""
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    with scratch_folder() as folder, private_mysql(secrets.token_urlsafe(18)) as server:
        yield Machine(folder, server, logs)


@contextmanager
def cluster(on: Machine, slots: int) -> Iterator[Cluster]:
    """A Spark master and a worker with this many slots, which are gone after the block.

    The cluster has a secret, as that of `make run`, so that encryption is measured too.
    """
    with private_spark(cores=slots) as spark:
        yield Cluster(on, spark)
