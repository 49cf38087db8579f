"""`docker compose up` on a real engine, to a finished run of the default study. Opt-in: make test-compose."""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from init.local.compose import write_environment
from init.local.layout import REPOSITORY, Layout
from init.local.ports import free_ports
from tests.compose.engine import NEEDED, Engine, make_base_images, private_engine, run
from tests.support.programs import run_program
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("TEST_COMPOSE" not in os.environ, reason="takes long: make test-compose"),
]

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
        return dict(line.split("=", 1) for line in (self.folder / ".env").read_text().splitlines())

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
        login = {"username": "admin", "password": self.secrets["TUNING_ADMIN_PASSWORD"]}
        return str(self.api("/auth/token", login)["access_token"])

    def finished_trials(self) -> int:
        sql = "SELECT COUNT(*) FROM optuna.trials WHERE state = 'COMPLETE'"
        command = ["exec", "-T", "-e", f"MYSQL_PWD={self.secrets['TUNING_DB_ROOT_PASSWORD']}", "mysql"]
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


def test_the_default_study_runs_although_mysql_restarts(stack: Stack) -> None:
    stack.compose("up", "--detach")
    wait_until(lambda: is_up(stack), "the API server to answer", 300, every_s=1)
    token = stack.token()
    wait_until(lambda: has_dag(stack, token), "the DAG tune_diabetes to appear", every_s=1)
    stack.api("/api/v2/dags/tune_diabetes", {"is_paused": False}, "PATCH", token)
    conf = {"logical_date": None, "conf": {"trials": 150}}
    run_id = stack.api("/api/v2/dags/tune_diabetes/dagRuns", conf, "POST", token)["dag_run_id"]
    wait_until(lambda: stack.finished_trials() >= 5, "five trials", 300, every_s=1)
    stack.compose("restart", "mysql")

    def state() -> str:
        try:
            return str(stack.api(f"/api/v2/dags/tune_diabetes/dagRuns/{run_id}", token=token)["state"])
        except OSError:
            return "unknown while MySQL restarts"

    wait_until(lambda: state() in ("success", "failed"), "the run to end", 600, every_s=1)
    assert state() == "success", stack.compose("logs", "--tail", "200", "airflow-scheduler")
    assert stack.finished_trials() == 150
    listing = stack.compose("exec", "-T", "airflow-scheduler", "ls", "/opt/tuning/exports/diabetes/latest/")
    assert {"best_params.json", "report.html", "best_trials.parquet"} <= set(listing.split())


def test_only_loopback_ports_are_published_and_no_service_is_root(stack: Stack) -> None:
    containers = stack.engine.docker("ps", "--quiet").split()
    assert len(containers) >= 7
    for container in containers:
        details = json.loads(stack.engine.docker("inspect", container))[0]
        for bindings in (details["NetworkSettings"]["Ports"] or {}).values():
            assert all(binding["HostIp"] == "127.0.0.1" for binding in bindings or [])
        # Docker itself needs the column pid. Health checks run as the image's own user, in mysql's as root.
        processes = stack.engine.docker("top", container, "-eo", "pid,user,args").splitlines()[1:]
        services = [line for line in processes if "mysqladmin" not in line]
        assert services, details["Name"]
        assert not [line for line in services if line.split()[1] == "root"], details["Name"]


def test_down_and_up_loses_nothing(stack: Stack) -> None:
    stack.compose("down")
    stack.compose("up", "--detach")
    wait_until(lambda: is_up(stack), "the API server to answer", 300, every_s=1)
    assert stack.finished_trials() == 150
    runs = stack.api("/api/v2/dags/tune_diabetes/dagRuns", token=stack.token())["dag_runs"]
    assert [r["state"] for r in runs] == ["success"]


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
