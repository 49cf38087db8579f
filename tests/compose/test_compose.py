"""`docker compose up` on a real engine, to a finished run of the default study. Opt-in: make test-compose."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from init.local.compose import SECRETS, write_environment
from init.local.digests import pulled_digest
from init.local.errors import SetupError
from init.local.layout import REPOSITORY, Layout
from init.local.ports import free_ports
from tests.compose.engine import NEEDED, Engine, make_base_images, private_engine, run
from tests.support.programs import run_program
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TEST_COMPOSE" not in os.environ, reason="takes long: make test-compose"),
]

# Those that run on; airflow-init ends.
SERVICES = (
    "mysql", "airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "spark-master",
    "spark-worker",
)  # fmt: skip
COPIED = ("dags", "plugins", "jobs", "init", "requirements", "Dockerfile", ".dockerignore", "docker-compose.yaml")


@dataclass(frozen=True)
class Stack:
    """The compose project of the test."""

    engine: Engine
    folder: Path
    ui_port: int

    def compose(self, *arguments: str) -> str:
        files = ["--file", "docker-compose.yaml", "--file", str(Path(__file__).with_name("docker-compose.test.yaml"))]
        command = ["docker-compose", "--project-name", "tuning", *files, *arguments]
        return run(command, env=self.engine.environment, cwd=self.folder)

    @property
    def secrets(self) -> dict[str, str]:
        return {name: (self.folder / ".secrets" / name).read_text() for name in SECRETS}

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", service).split()[0]

    def in_container(self, service: str, *command: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's container; stdout and stderr together in `stdout`."""
        whole = ["docker", "exec", self.container(service), *command]
        return run_program(whole, env=self.engine.environment, seconds=timeout_s, together=True, code=None)

    def addresses(self, service: str) -> list[str]:
        details = json.loads(self.engine.docker("inspect", self.container(service)))[0]
        return [network["IPAddress"] for network in details["NetworkSettings"]["Networks"].values()]

    def api(self, path: str, body: object = None, method: str | None = None, token: str = "") -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ui_port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def token(self) -> str:
        login = {"username": "admin", "password": self.secrets["admin_password"]}
        return str(self.api("/auth/token", login)["access_token"])

    def finished_trials(self) -> int:
        sql = "SELECT COUNT(*) FROM optuna.trials WHERE state = 'COMPLETE'"
        command = ["exec", "-T", "-e", f"MYSQL_PWD={self.secrets['db_root_password']}", "mysql"]
        try:
            return int(self.compose(*command, "mysql", "--user=root", "--host=127.0.0.1", "-N", "-e", sql))
        except AssertionError:
            return 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} must be installed: apt-get install docker.io docker-compose debootstrap")
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    make_readable(folder)
    ui_port, spark_port = free_ports(2)
    write_environment(Layout(folder))
    with (folder / ".env").open("a") as file:
        file.write(f"TUNING_UI_PORT={ui_port}\nTUNING_SPARK_UI_PORT={spark_port}\n")
    with private_engine(Layout(REPOSITORY).state / "docker") as engine:
        python_image = re.search(r"PYTHON_IMAGE=(\S+)", (folder / "Dockerfile").read_text())
        mysql_image = re.search(r"image: (mysql:\S+)", (folder / "docker-compose.yaml").read_text())
        assert python_image
        assert mysql_image
        make_base_images(engine, python_image[1], mysql_image[1])
        result = Stack(engine, folder, ui_port)
        result.compose("build")
        try:
            yield result
        finally:
            result.compose("down", "--volumes")


def make_readable(folder: Path) -> None:
    """Containers run as another user: what is mounted must be readable, as it is in a clone."""
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    folder.parent.parent.chmod(0o755)


def test_compose_refuses_to_start_without_secrets(stack: Stack, tmp_path: Path) -> None:
    shutil.copy(stack.folder / "docker-compose.yaml", tmp_path)
    done = run_program(["docker-compose", "config"], cwd=tmp_path, env=stack.engine.environment, code=None)
    assert done.returncode != 0, done.stdout + done.stderr
    assert "run make compose-env" in done.stderr


@pytest.fixture(scope="module")
def running(stack: Stack) -> Stack:
    stack.compose("up", "--detach")
    wait_until(lambda: is_up(stack), "the API server to answer", 300, every_s=1)
    wait_until(lambda: has_dag(stack, stack.token()), "the DAG tune_diabetes to appear", 300, every_s=1)
    return stack


@pytest.fixture(scope="module")
def run_state(running: Stack) -> str:
    """How a run of the default study ended; MySQL was restarted in the middle of it."""
    token = running.token()
    running.api("/api/v2/dags/tune_diabetes", {"is_paused": False}, "PATCH", token)
    conf = {"logical_date": None, "conf": {"trials": 150}}
    run_id = running.api("/api/v2/dags/tune_diabetes/dagRuns", conf, "POST", token)["dag_run_id"]
    wait_until(lambda: running.finished_trials() >= 5, "five trials", 300, every_s=1)
    running.compose("restart", "mysql")

    def state() -> str:
        try:
            return str(running.api(f"/api/v2/dags/tune_diabetes/dagRuns/{run_id}", token=token)["state"])
        except OSError:
            return "unknown while MySQL restarts"

    wait_until(lambda: state() in ("success", "failed"), "the run to end", 600, every_s=1)
    return state()


def test_the_default_study_runs_although_mysql_restarts(running: Stack, run_state: str) -> None:
    assert run_state == "success", running.compose("logs", "--tail", "200", "airflow-scheduler")
    assert running.finished_trials() == 150
    listing = running.in_container("airflow-scheduler", "ls", "/opt/tuning/exports/diabetes/latest/").stdout
    assert {"best_params.json", "report.html", "best_trials.parquet"} <= set(listing.split())


def test_only_loopback_ports_are_published_and_no_service_is_root(running: Stack) -> None:
    containers = running.engine.docker("ps", "--quiet").split()
    assert len(containers) >= 7
    for container in containers:
        details = json.loads(running.engine.docker("inspect", container))[0]
        for bindings in (details["NetworkSettings"]["Ports"] or {}).values():
            assert all(binding["HostIp"] == "127.0.0.1" for binding in bindings or [])
        # Docker itself needs the column pid.
        processes = running.engine.docker("top", container, "-eo", "pid,user,args").splitlines()[1:]
        assert processes, details["Name"]
        assert not [line for line in processes if line.split()[1] == "root"], details["Name"]


@pytest.mark.attack(
    "containers", "a program in a container that uses rights of root's or changes the image's files", times=7
)
def test_no_container_has_rights_or_a_root_file_system_to_change(running: Stack) -> None:
    for service in SERVICES:
        status = running.in_container(service, "cat", "/proc/1/status").stdout
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE), service
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), service
        assert "Read-only file system" in running.in_container(service, "touch", "/usr/bin/new").stdout, service


CONNECT = """
import socket, sys
for host in sys.argv[2:]:
    try:
        socket.create_connection((host, int(sys.argv[1])), 5).close()
        print(host, "connected")
    except OSError as error:
        print(host, "refused:", error)
"""


@pytest.mark.attack("containers", "a worker that connects to MySQL or to Airflow's API, by name or address", times=5)
def test_a_worker_reaches_neither_the_database_nor_airflow(running: Stack) -> None:
    for port, service in (("3306", "mysql"), ("8080", "airflow-apiserver")):
        command = ["python3", "-c", CONNECT, port, service, *running.addresses(service)]
        tried = running.in_container("spark-worker", *command).stdout
        assert tried.count("refused:") == len(command) - 4, tried
        assert "connected" not in tried
        assert f"{service} connected" in running.in_container("airflow-scheduler", *command).stdout


@pytest.mark.attack(
    "containers", "docker inspect, docker compose config or a process's environment read for a secret", times=3
)
def test_no_secret_is_in_a_configuration_or_an_environment(running: Stack) -> None:
    told = running.compose("config")
    told += running.engine.docker("inspect", *running.engine.docker("ps", "--all", "--quiet").split())
    for service in SERVICES:
        if service != "mysql":  # whose image's own script takes its passwords from files into its environment
            told += running.in_container(service, "sh", "-c", "cat /proc/[0-9]*/environ | tr '\\0' '\\n'").stdout
    for name, value in running.secrets.items():
        assert value not in told, name


@pytest.mark.attack("containers", "a service without need of it that looks for the administrator's password", times=5)
def test_only_the_scheduler_has_the_administrators_password(running: Stack) -> None:
    for service in SERVICES:
        files = running.in_container(service, "sh", "-c", "cat /run/secrets/* /opt/tuning/airflow/*.json").stdout
        has = running.secrets["db_root_password"] in files
        assert has == (service in ("mysql", "airflow-scheduler")), service


STRANGER = """
from pyspark.sql import SparkSession
session = SparkSession.builder.master("spark://spark-master:7077").getOrCreate()
print("sum", session.sparkContext.parallelize([1, 2, 3]).sum())
"""


@pytest.mark.attack("containers", "an application sent to the Spark master without the cluster's secret")
def test_an_application_without_the_secret_gets_no_executor(running: Stack) -> None:
    def application(conf_dir: str) -> str:
        command = ["env", f"SPARK_CONF_DIR={conf_dir}", "/opt/spark-env/bin/python", "-c", STRANGER]
        return running.in_container("spark-worker", *command, timeout_s=600).stdout

    assert "All masters are unresponsive" in application("/opt/tuning/init/spark/conf")
    assert "sum 6" in application("/home/tuning/spark-conf")


def test_an_image_that_was_made_here_has_no_digest(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", stack.engine.environment["DOCKER_HOST"])
    with pytest.raises(SetupError, match=r"was not pulled yet .*: docker pull tuning-spark:local"):
        pulled_digest("tuning-spark:local")


def test_down_and_up_loses_nothing(running: Stack, run_state: str) -> None:
    running.compose("down")
    running.compose("up", "--detach")
    wait_until(lambda: is_up(running), "the API server to answer", 300, every_s=1)
    assert running.finished_trials() == 150
    runs = running.api("/api/v2/dags/tune_diabetes/dagRuns", token=running.token())["dag_runs"]
    assert [r["state"] for r in runs] == [run_state] == ["success"]


def is_up(stack: Stack) -> bool:
    try:
        return "version" in stack.api("/api/v2/version")
    except OSError:
        return False


def has_dag(stack: Stack, token: str) -> bool:
    try:
        return bool(stack.api("/api/v2/dags/tune_diabetes", token=token))
    except OSError:
        return False
