"""The init scripts under bash: a real MySQL on the driver, packages left alone; on request, a whole Debian root."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
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
from optuna_spark.spec.tuning import TuningSpec
from tests.support.debian import CERTIFICATES, debootstrap, lacking, open_network
from tests.support.processes import is_readable_as
from tests.support.programs import run_program
from tests.support.servers import scratch_folder, spark_environment
from tests.support.submit import SUBMIT, pack_package, submit_environment
from tests.support.waiting import wait_until
from tuning_pipeline.targets.databricks.workspace.init_scripts import LOCKS, init_script

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
        cursor.execute("SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'optuna'")
        assert cursor.fetchone()[0] in ("utf8mb4_0900_bin", "utf8mb4_nopad_bin")  # MySQL's, MariaDB's
        with pytest.raises(pymysql.MySQLError):
            cursor.execute("CREATE DATABASE other")
        with pytest.raises(pymysql.MySQLError):
            cursor.execute("DROP DATABASE optuna")
    for wrong in ({"password": "x"}, {"user": "root", "password": ""}, {"user": "", "password": ""}):
        with pytest.raises(pymysql.MySQLError):
            node.connect(**wrong)


def account_host(node: Node) -> str:
    """Where the account may come from, as the server says it."""
    with node.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_USER()")
        (account,) = cursor.fetchone()
        return str(account).partition("@")[2]


def refused_from(node: Node, address: str) -> bool:
    try:
        node.connect(bind_address=address).close()
    except pymysql.MySQLError as error:
        return "is not allowed to connect" in str(error) or "Access denied" in str(error)
    return False


@pytest.mark.attack("a shared machine", "the password of a cluster driver's MySQL used from another address", times=2)
def test_only_the_driver_reaches_its_server(node: Node) -> None:
    """Workers of the default coordination need no database, so the network gets no port either."""
    done = node.start(DB_DRIVER_IP="127.0.0.5")
    assert done.returncode == 0, done.stdout
    assert (node.url.host, account_host(node)) == ("127.0.0.1", "127.0.0.1")
    with pytest.raises(pymysql.err.OperationalError, match="Can't connect"):
        node.connect(host="127.0.0.5")
    assert refused_from(node, "127.0.0.5")


def test_workers_that_use_the_database_come_from_the_drivers_subnet(node: Node) -> None:
    done = node.start(TUNING_DB_CLIENTS="cluster")
    assert done.returncode == 0, done.stdout
    assert account_host(node) == "127.0.0.0/255.0.0.0"
    assert not refused_from(node, "127.9.9.9")


@pytest.mark.attack("a shared machine", "the password of a cluster driver's MySQL used from another subnet")
def test_addresses_that_are_not_the_workers_are_refused(node: Node) -> None:
    done = node.start(TUNING_DB_CLIENTS="cluster", TUNING_DB_ALLOW_FROM="127.0.0.0/255.255.255.0")
    assert done.returncode == 0, done.stdout
    assert not refused_from(node, "127.0.0.9")
    assert refused_from(node, "127.0.9.9")


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
@pytest.mark.attack("a shared machine", "another account or another server at the files of the driver's MySQL", times=8)
def test_the_server_has_an_account_files_and_variables_of_its_own(node: Node) -> None:
    assert node.start(TUNING_DB_PASSWORD="quiet_pass-1").returncode == 0
    process = Path("/proc", (node.home / "mysql" / "server.pid").read_text().strip())
    with pytest.raises(KeyError):
        pwd.getpwuid(process.stat().st_uid)
    variables = {entry.split(b"=")[0] for entry in (process / "environ").read_bytes().rstrip(b"\0").split(b"\0")}
    assert variables == {b"PATH", b"HOME", b"LANG", b"TZ", b"TMPDIR"}
    with node.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@tmpdir")
        assert cursor.fetchall() == ((f"{node.home}/tmp",),)
    closed = ["tmp", "mysql", "mysql/server.sock", "storage-url"]
    # 65534 is `nobody`, whom many programs share.
    assert [(who, name) for who in (54321, 65534) for name in closed if is_readable_as(who, node.home / name)] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_data_of_the_account_an_earlier_version_had_are_taken_over(node: Node) -> None:
    assert node.start().returncode == 0
    node.stop_server()
    subprocess.run(["chown", "-R", "65534:65534", node.home / "mysql"], check=True)
    assert node.start().returncode == 0
    with node.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (x INT)")


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
    ({"TUNING_DB_CLIENTS": "all"}, "TUNING_DB_CLIENTS must be driver or cluster, got 'all'"),
    ({"TUNING_DB_CLIENTS": "cluster", "DB_DRIVER_IP": "a b"}, "DB_DRIVER_IP must be an IP address, got 'a b'"),
    (
        {"TUNING_DB_CLIENTS": "cluster", "TUNING_DB_ALLOW_FROM": "%"},
        "TUNING_DB_ALLOW_FROM must be the workers' addresses, as network/netmask, got '%'",
    ),
    (
        {"TUNING_DB_CLIENTS": "cluster", "DB_DRIVER_IP": "192.0.2.1"},
        "TUNING_DB_ALLOW_FROM must be the workers' addresses, as network/netmask, got ''",
    ),
]


@pytest.mark.parametrize(("variables", "message"), WRONG)
def test_a_wrong_variable_is_one_sentence(node: Node, variables: dict[str, str], message: str) -> None:
    done = node.start(**variables)
    assert done.returncode == 1, done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"init_optuna: {message}")


def fake_program(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)
    return file


@pytest.fixture(scope="module")
def python_with_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with pip and nothing else, to copy."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder


@pytest.fixture
def bare_python(python_with_pip: Path, tmp_path: Path) -> dict[str, str]:
    """Variables of a node whose Python has pip and nothing else, and no package index but a folder, `packages`."""
    shutil.copytree(python_with_pip, tmp_path / "python", symlinks=True)
    (tmp_path / "packages").mkdir()
    return {
        "TUNING_PYTHON": str(tmp_path / "python" / "bin" / "python"),
        "TUNING_DATABASE": "external",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "packages"),
        "PIP_CONFIG_FILE": os.devnull,
    }


def wheel(folder: Path, name: str, version: str, needs: str = "") -> Path:
    """A package of one module, built by hand: no build tool is needed to make what pip installs."""
    info = f"{name}-{version}.dist-info"
    file = folder / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "print('not what was locked')\n")
        archive.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {needs}\n" if needs else ""))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file


def installed(python: str) -> set[str]:
    asked = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
    return {package["name"].lower() for package in json.loads(asked.stdout)}


def locked_versions() -> dict[str, str]:
    lock = (REPOSITORY / "requirements" / "databricks.txt").read_text()
    return dict(re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE))


def test_pip_is_tried_again_and_its_failure_named(node: Node, bare_python: dict[str, str]) -> None:
    done = node.start(**bare_python)
    assert done.returncode == 1
    assert done.stdout.count("No matching distribution") == 4
    assert re.match(r"init_optuna: pip cannot install .*optuna==5.0.0", done.stdout.splitlines()[-1])


@pytest.mark.attack("set-up", "a package index that serves other files under the locked names", times=7)
def test_a_package_that_is_not_the_locked_one_is_not_installed(
    node: Node, bare_python: dict[str, str], tmp_path: Path
) -> None:
    versions = locked_versions()
    for name in ("optuna", "sqlalchemy", "pymysql", "joblibspark", "packaging", "cryptography", "cloudpickle"):
        wheel(tmp_path / "packages", name, versions[name])
    before = installed(bare_python["TUNING_PYTHON"])
    done = node.start(**bare_python)
    assert installed(bare_python["TUNING_PYTHON"]) == before, done.stdout
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stdout


def install_locked(variables: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run install_locked.py with `folder`/job.in and job.txt."""
    python = variables["TUNING_PYTHON"]
    command = [python, str(SCRIPTS / "install_locked.py"), python, str(folder), "job"]
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_package_of_the_runtime_is_never_replaced(bare_python: dict[str, str], tmp_path: Path) -> None:
    """Here numpy is there and too old for what is wanted; but what else the runtime has was built with it."""
    pip = [bare_python["TUNING_PYTHON"], "-m", "pip", "install", "--quiet", "--no-index"]
    subprocess.run([*pip, str(wheel(tmp_path, "numpy", "1.0"))], check=True)
    (tmp_path / "job.in").write_text("numpy>=2\n")
    (tmp_path / "job.txt").write_text("numpy==2.4.6 \\\n    --hash=sha256:00\n")
    done = install_locked(bare_python, tmp_path)
    assert done.returncode == 1
    assert done.stderr == "the tuning job needs numpy>=2 and this runtime has 1.0, which stays: take another runtime\n"


def test_what_is_missing_is_installed_with_what_that_needs(bare_python: dict[str, str], tmp_path: Path) -> None:
    """What `a` needs is known once it is there; nobody needs `c`."""
    packages = {
        name: wheel(tmp_path / "packages", name, "1.0", needs) for name, needs in {"a": "b", "b": "", "c": ""}.items()
    }
    digests = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in packages.items()}
    (tmp_path / "job.in").write_text("# what the job needs\na==1.0\n")
    (tmp_path / "job.txt").write_text("".join(f"{n}==1.0 \\\n    --hash=sha256:{d}\n" for n, d in digests.items()))
    done = install_locked(bare_python, tmp_path)
    assert done.stdout.splitlines() == ["installing a==1.0", "installing b==1.0", "the Python packages are installed"]
    there = installed(bare_python["TUNING_PYTHON"])
    assert {"a", "b"} <= there
    assert "c" not in there
    assert install_locked(bare_python, tmp_path).stdout.splitlines() == ["all Python packages are there"]


def test_cpu_nodes_get_no_cudf(node: Node) -> None:
    done = node.start("init_optuna_xgboost.sh")
    assert done.returncode == 0, done.stdout
    assert "no GPU on this node: no cuDF" in done.stdout
    assert "wanted: databricks-xgboost\n" in done.stdout
    assert "all Python packages are there" in done.stdout


@pytest.mark.parametrize(
    ("pandas", "said"),
    [("2.2.3", "wanted: databricks-xgboost databricks-cudf"), ("3.0.1", "no cuDF is known for pandas 3.0.1")],
)
def test_cudf_is_for_the_runtimes_pandas(node: Node, tmp_path: Path, pandas: str, said: str) -> None:
    """Only nvidia-smi and the answers of Python are made up: no machine here has the package index's gigabytes."""
    fake_program(tmp_path, "nvidia-smi", "echo 'index, name'; echo '0, Tesla T4'")
    python = fake_program(tmp_path, "python", f'[ "$3" = pandas ] && echo {pandas}\nexit 0')
    done = node.start("init_optuna_xgboost.sh", TUNING_PYTHON=str(python), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout
    assert "Tesla T4" in done.stdout
    assert f"init_optuna_xgboost: {said}" in done.stdout


@pytest.mark.parametrize("name", LOCKS)
def test_a_script_that_is_sent_is_complete_and_of_a_size_that_databricks_takes(
    node: Node, tmp_path: Path, name: str
) -> None:
    """It runs in a folder where nothing else lies; the size is what global init scripts may have."""
    (tmp_path / name).write_bytes(init_script(name))
    assert (tmp_path / name).stat().st_size < 64 * 1024
    assert init_script(name) == (tmp_path / name).read_bytes()
    command = ["bash", str(tmp_path / name)]
    environment = {**node.environment, "TUNING_DATABASE": "external", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "all Python packages are there" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == [name]  # what it unpacked is gone


@pytest.fixture(scope="module")
def debian() -> Iterator[Path]:
    """A Debian with nothing but Python, as bare as a runtime's container."""
    if not os.environ.get("TEST_DEBIAN_ROOT"):
        pytest.skip("set TEST_DEBIAN_ROOT=1 to install into a Debian root (debootstrap, root, some minutes)")
    if missing := lacking():
        pytest.fail(f"TEST_DEBIAN_ROOT needs {' and '.join(missing)}")
    with scratch_folder() as folder:
        root = folder / "root"
        folder.chmod(0o755)
        packages = ["ca-certificates", "python3", "python3-venv", "procps", "adduser"]
        run_program(debootstrap(root, "bookworm", packages), seconds=1800)
        open_network(root)
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
    spec = TuningSpec("bare", objective="quadratic", run_id=run_id, trials=5, tasks=2, seed=1, distribution="rdd")
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
    (debian / "init_optuna.sh").write_bytes(init_script("init_optuna.sh"))
    node = Node(debian / "var" / "lib" / "tuning")
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_CERT": str(CERTIFICATES),
        **{key: node.environment[key] for key in ("TUNING_DB_PORT", "TUNING_DATABASE", "DB_IS_DRIVER", "DB_DRIVER_IP")},
    }
    command = ["chroot", str(debian), "bash", "/init_optuna.sh"]
    try:
        for expected in ("optuna==5.0.0", "MySQL answers already"):
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
