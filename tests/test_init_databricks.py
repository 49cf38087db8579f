"""The init scripts under bash: a real MySQL on the driver, packages left alone; on request, a whole Debian root."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pymysql
import pytest
import sqlalchemy

from init.local.layout import REPOSITORY
from init.local.mysql import is_installed
from init.local.ports import free_ports
from init.local.processes import birth
from optuna_spark.spec import TuningSpec
from tests.support.programs import run_program
from tests.support.servers import scratch_folder, spark_environment
from tests.support.submit import SUBMIT, pack_package, submit_environment
from tests.support.waiting import wait_until

SCRIPTS = REPOSITORY / "init" / "databricks"
pytestmark = pytest.mark.slow


class Node:
    """A node of a cluster, as the script sees one: environment variables and a folder of its own."""

    def __init__(self, home: Path, **variables: str) -> None:
        (port,) = free_ports(1)
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "TUNING_HOME": str(home),
            "TUNING_PYTHON": str(spark_environment() / "bin" / "python"),
            "TUNING_DB_PORT": str(port),
            "TUNING_DATABASE": "driver",
            "DB_IS_DRIVER": "TRUE",
            "DB_DRIVER_IP": "127.0.0.1",
            **variables,
        }

    def start(self, script: str = "init_optuna.sh", **variables: str) -> subprocess.CompletedProcess[str]:
        return run_program(["bash", SCRIPTS / script], env=self.environment | variables, code=None, together=True)

    def must_start(self) -> None:
        done = self.start()
        assert done.returncode == 0, done.stdout

    @property
    def url(self) -> sqlalchemy.URL:
        return sqlalchemy.make_url((self.home / "storage-url").read_text().strip())

    def connect(self, **changes: Any) -> Any:
        fields: dict[str, Any] = {"host": self.url.host, "port": self.url.port, "user": self.url.username}
        return pymysql.connect(**(fields | {"password": self.url.password, "database": "optuna"} | changes))

    def stop_server(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((self.home / "mysql" / "server.pid").read_text())
            os.kill(pid, signal.SIGKILL)
            # Where process 1 reaps nobody its corpse stays for ever: it has ended all the same.
            wait_until(lambda: birth(pid) is None, f"the node's MySQL server, process {pid}, to end")


@pytest.fixture
def node() -> Iterator[Node]:
    if not is_installed():
        pytest.skip("no MySQL server is installed here")
    with scratch_folder() as folder:
        folder.chmod(0o711)  # the server's account must reach its data below
        node = Node(folder / "tuning")
        try:
            yield node
        finally:
            node.stop_server()


def test_the_driver_serves_one_database_to_one_account(node: Node) -> None:
    done = node.start()
    assert done.returncode == 0, done.stdout
    assert node.url.password
    assert node.url.password not in done.stdout
    assert (node.home / "storage-url").stat().st_mode & 0o777 == 0o600
    assert not (node.home / "init.sql").exists()
    with node.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        assert {name for (name,) in cursor.fetchall()} == {"information_schema", "optuna"}
        cursor.execute(
            "SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'optuna'"
        )
        assert cursor.fetchone() == ("utf8mb4",)
        with pytest.raises(pymysql.MySQLError):
            cursor.execute("CREATE DATABASE other")
        with pytest.raises(pymysql.MySQLError):
            cursor.execute("DROP DATABASE optuna")
    for wrong in ({"password": "x"}, {"user": "root", "password": ""}, {"user": "", "password": ""}):
        with pytest.raises(pymysql.MySQLError):
            node.connect(**wrong)


def test_the_script_runs_again_without_harm(node: Node) -> None:
    node.must_start()
    before = node.url
    again = node.start()
    assert again.returncode == 0, again.stdout
    assert "MySQL answers already" in again.stdout
    assert node.url == before
    with node.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (x INT)")
    node.stop_server()
    node.must_start()
    assert node.url.password != before.password
    with node.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        assert cursor.fetchall() == (("kept",),)


def test_a_password_of_ones_own_is_taken_and_not_shown(node: Node) -> None:
    done = node.start(TUNING_DB_PASSWORD="quiet_pass-1")
    assert done.returncode == 0, done.stdout
    assert node.url.password == "quiet_pass-1"
    assert "quiet_pass-1" not in done.stdout


def test_a_password_that_could_break_a_statement_is_refused(node: Node) -> None:
    done = node.start(TUNING_DB_PASSWORD="it's; DROP")
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1] == "init_optuna: TUNING_DB_PASSWORD must be at least 8 letters, digits, - and _"
    assert not (node.home / "storage-url").exists()


def test_a_server_that_cannot_start_says_why(node: Node) -> None:
    with socket.create_server(("127.0.0.1", int(node.environment["TUNING_DB_PORT"]))):
        done = node.start()
    assert done.returncode == 1, done.stdout
    assert "init_optuna: MySQL does not come up: " in done.stdout
    assert "Address already in use" in done.stdout
    assert not (node.home / "storage-url").exists()


@pytest.mark.parametrize("variables", [{"DB_IS_DRIVER": "FALSE"}, {"TUNING_DATABASE": "external"}])
def test_other_nodes_get_no_server(node: Node, variables: dict[str, str]) -> None:
    done = node.start(**variables)
    assert done.returncode == 0, done.stdout
    assert "all Python packages are there" in done.stdout
    assert not node.home.exists()


WRONG = [
    ({"TUNING_DATABASE": "postgres"}, "TUNING_DATABASE must be driver or external, got 'postgres'"),
    ({"TUNING_PYTHON": "/none"}, "no Python at /none: set TUNING_PYTHON"),
    ({"TUNING_DB_PORT": "x"}, "TUNING_DB_PORT must be a number, got 'x'"),
    ({"DB_DRIVER_IP": "a b"}, "DB_DRIVER_IP must be an IP address, got 'a b'"),
]


@pytest.mark.parametrize(("variables", "message"), WRONG)
def test_a_wrong_variable_is_one_sentence(node: Node, variables: dict[str, str], message: str) -> None:
    done = node.start(**variables)
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1] == f"init_optuna: {message}"


def fake_program(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)
    return file


def test_pip_is_tried_again_and_its_failure_named(node: Node, tmp_path: Path) -> None:
    """A Python that lacks everything, with a pip that fails: what a closed network looks like."""
    real = node.environment["TUNING_PYTHON"]
    fake_program(tmp_path, "sleep", "true")
    python = fake_program(
        tmp_path, "python", f'if [ "$1" = -m ]; then echo "no index" >&2; exit 1; fi\nexec "{real}" -S "$@"'
    )
    done = node.start(TUNING_PYTHON=str(python), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("no index") == 4
    assert "pip cannot install optuna==5.0.0" in done.stdout.splitlines()[-1]


def test_cpu_nodes_get_no_cudf(node: Node) -> None:
    done = node.start("init_optuna_xgboost.sh")
    assert done.returncode == 0, done.stdout
    assert "no GPU on this node: no cuDF" in done.stdout
    assert "xgboost==3.2.0 is there" in done.stdout


@pytest.mark.parametrize(("pandas", "cudf"), [("2.2.3", "cudf-cu12==26.6.*"), ("3.0.1", "cudf-cu12==26.10.*")])
def test_cudf_is_pinned_by_the_runtimes_pandas(node: Node, tmp_path: Path, pandas: str, cudf: str) -> None:
    """Only nvidia-smi and the answers of Python are made up: no machine here has the package index's gigabytes."""
    fake_program(tmp_path, "nvidia-smi", "echo 'index, name'; echo '0, Tesla T4'")
    python = fake_program(
        tmp_path,
        "python",
        f'if [ "$1" = -m ]; then echo "pip $*"; exit 0; fi\n[ "$3" = pandas ] && echo {pandas}\nexit 0',
    )
    done = node.start("init_optuna_xgboost.sh", TUNING_PYTHON=str(python), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout
    assert "Tesla T4" in done.stdout
    assert f"xgboost==3.2.0 {cudf}" in done.stdout


CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture(scope="module")
def debian() -> Iterator[Path]:
    """A Debian with nothing but Python, as bare as a runtime's container."""
    if not os.environ.get("TEST_DEBIAN_ROOT"):
        pytest.skip("set TEST_DEBIAN_ROOT=1 to install into a Debian root (debootstrap, root, some minutes)")
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.fail("TEST_DEBIAN_ROOT needs root and debootstrap")
    with scratch_folder() as folder:
        root = folder / "root"
        folder.chmod(0o755)
        packages = "ca-certificates,python3,python3-venv,procps,adduser"
        debootstrap = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)]
        run_program(debootstrap, seconds=1800)
        for file in (CERTIFICATES, Path("/etc/pip.conf"), Path("/etc/resolv.conf")):
            if file.exists():
                shutil.copy(file, root / file.relative_to("/"))
        run_program(["chroot", root, "python3", "-m", "venv", "/databricks/python"])
        run_program(["mount", "--bind", "/proc", root / "proc"])
        try:
            yield root
        finally:
            run_program(["umount", root / "proc"])


def job_on(node: Node, folder: Path) -> list[str]:
    """Run the job against the node's MySQL; the states of the trials it leaves on the "Volume"."""
    copy = folder / "volume" / "study.db"
    run_id = f"run {copy.exists()}"
    spec = TuningSpec("bare", "quadratic", run_id=run_id, trials=5, tasks=2, seed=1, distribution="rdd")
    (folder / "spec.json").write_text(spec.to_json())
    job = [str(REPOSITORY / "jobs" / "tune_databricks.py"), str(pack_package(folder))]
    job += ["--spec-file", str(folder / "spec.json"), "--output", str(folder / "volume"), "--study-copy", str(copy)]
    run_program(
        [SUBMIT, "--master", "local[2]", "--conf", "spark.ui.enabled=false", *job],
        env=submit_environment(TUNING_HOME=str(node.home)),
    )
    return [trial.state.name for trial in optuna.load_study(study_name="bare", storage=f"sqlite:///{copy}").trials]


def test_a_bare_debian_becomes_a_driver_whose_mysql_serves_the_job(debian: Path, tmp_path: Path) -> None:
    """Real apt, real pip, and a server that lets the job's account in; only Spark is this machine's."""
    shutil.copy(SCRIPTS / "init_optuna.sh", debian / "init_optuna.sh")
    node = Node(debian / "var" / "lib" / "tuning")
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_CERT": str(CERTIFICATES),
        **{key: node.environment[key] for key in ("TUNING_DB_PORT", "TUNING_DATABASE", "DB_IS_DRIVER", "DB_DRIVER_IP")},
    }
    command = ["chroot", str(debian), "bash", "/init_optuna.sh"]
    try:
        for expected in ("installing optuna==5.0.0", "MySQL answers already"):
            done = run_program(command, env=variables, together=True, seconds=1800)
            assert expected in done.stdout
        with node.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        assert job_on(node, tmp_path) == ["COMPLETE"] * 5
        assert job_on(node, tmp_path) == ["COMPLETE"] * 10
        assert not (debian / "usr/sbin/policy-rc.d").exists()
    finally:
        node.stop_server()
