"""Who may use the Spark cluster of a shared machine: those that can read its secret, and nobody learns that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from init.local.layout import REPOSITORY
from init.local.ports import LOOPBACK, free_ports
from init.local.spark import SparkCluster, spark_home
from tests.support.processes import is_readable_as
from tests.support.servers import private_spark, spark_environment
from tests.support.submit import submit, submit_command, submit_environment
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not spark_environment().exists(), reason="no Spark environment: run `make setup`"),
]
STRANGER = 54321
# On the worker: says what it is called there, then waits to be let go.
PROGRAM = """
import json, os, pathlib, sys, time
from pyspark import SparkContext

def task(folder):
    folder = pathlib.Path(folder)
    (folder / "new").write_text(json.dumps({"environment": dict(os.environ), "pid": os.getpid()}))
    (folder / "new").rename(folder / "ran")
    while not (folder / "go").exists() and (folder / "ran").exists():
        time.sleep(0.1)

context = SparkContext()
context.parallelize([sys.argv[1]], 1).foreach(task)
print("the application has ended well")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[SparkCluster]:
    with private_spark(cores=2) as running:
        yield running


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def secret_of(cluster: SparkCluster) -> str:
    return (cluster.state / "spark" / "secret").read_text().strip()


def overview(cluster: SparkCluster) -> dict[str, Any]:
    with urllib.request.urlopen(f"{cluster.web_url}/json/", timeout=10) as answer:
        return dict(json.load(answer))


@pytest.fixture(scope="module")
def application(cluster: SparkCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the web page of an application that runs a task while the tests look at it, and then ends well."""
    folder = tmp_path_factory.mktemp("application")
    (folder / "program.py").write_text(PROGRAM)
    port = free_ports(1)[0]
    conf = {"spark.ui.enabled": "true", "spark.ui.port": str(port)}
    process = subprocess.Popen(
        submit_command(cluster.master_url, folder, [str(folder)], conf, folder / "program.py"),
        env=submit_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: (folder / "ran").exists() or process.poll() is not None, "the task to run")
        assert process.poll() is None, process.communicate()[0]
        yield f"http://{LOOPBACK}:{port}"
        (folder / "go").touch()
        output, _ = process.communicate(timeout=180)
        assert "the application has ended well" in output, output
    finally:
        process.kill()
        process.communicate()


@pytest.mark.attack("a shared machine", "an application for the Spark cluster from an account without its secret")
def test_a_strangers_application_runs_nothing(cluster: SparkCluster, tmp_path: Path, program: Path) -> None:
    (tmp_path / "go").touch()
    # What a stranger has: the same Spark, the address, and not the folder with the secret.
    conf = str(REPOSITORY / "init" / "spark" / "conf")
    done = submit(cluster.master_url, tmp_path, [str(tmp_path)], program=program, SPARK_CONF_DIR=conf)
    assert done.returncode != 0
    assert "ended well" not in done.stdout
    assert not (tmp_path / "ran").exists()
    assert cluster.alive_workers() == 1


@pytest.mark.attack("a shared machine", "an application for the Spark cluster with a guessed secret")
def test_a_wrong_secret_runs_nothing(cluster: SparkCluster, tmp_path: Path, program: Path) -> None:
    (tmp_path / "go").touch()
    (tmp_path / "secret").write_text("0" * 64)
    made = [str(REPOSITORY / "init" / "spark" / "make-conf.sh"), str(tmp_path / "conf"), str(tmp_path / "secret")]
    subprocess.run(made, env={"PATH": os.environ["PATH"]}, check=True)
    done = submit(cluster.master_url, tmp_path, [str(tmp_path)], program=program, SPARK_CONF_DIR=str(tmp_path / "conf"))
    assert done.returncode != 0
    assert not (tmp_path / "ran").exists()


@pytest.mark.attack("a shared machine", "a worker that joins the Spark cluster without its secret")
def test_a_strangers_worker_does_not_join(cluster: SparkCluster, tmp_path: Path) -> None:
    home = spark_home(spark_environment())
    options = ["--host", LOOPBACK, "--webui-port", "0", "--work-dir", str(tmp_path), cluster.master_url]
    env = {"PATH": os.environ["PATH"], "SPARK_HOME": str(home), "SPARK_LOCAL_IP": LOOPBACK}
    command = [str(home / "bin" / "spark-class"), "org.apache.spark.deploy.worker.Worker", *options]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        refused = "Failed to connect to master", "Successfully registered with master"
        wait_until(
            lambda: worker.poll() is not None or any(text in (tmp_path / "log").read_text() for text in refused),
            "the worker to be told",
        )
        assert len(overview(cluster)["workers"]) == 1
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
@pytest.mark.attack("a shared machine", "another account reads the Spark cluster's secret", times=4)
def test_another_account_cannot_read_the_secret(cluster: SparkCluster) -> None:
    cluster.state.chmod(0o755)  # as bad as it gets: the folder above is open
    files = [cluster.conf_dir, cluster.conf_dir / "spark-defaults.conf", cluster.state / "spark" / "secret"]
    files += [cluster.state / "spark" / "work"]
    assert [str(file) for file in files if is_readable_as(STRANGER, file)] == []


@pytest.mark.attack(
    "a shared machine", "the Spark cluster's secret in an argument, a web page, a log or a file", times=8
)
def test_the_secret_shows_nowhere(cluster: SparkCluster, application: str) -> None:
    secret = secret_of(cluster).encode()
    arguments = [text for file in Path("/proc").glob("[0-9]*/cmdline") for text in [read_if_there(file)]]
    assert any(b"CoarseGrainedExecutorBackend" in text for text in arguments)
    assert not [text for text in arguments if secret in text]
    status = overview(cluster)
    (running,), (worker,) = status["activeapps"], status["workers"]
    pages = [f"{cluster.web_url}{path}" for path in ("/", "/json/", f"/app/?appId={running['id']}")]
    pages += [f"{worker['webuiaddress']}{path}" for path in ("", "/json/")]
    pages += [f"{application}/environment/", f"{application}/api/v1/applications/{running['id']}/environment"]
    for page in pages:
        with urllib.request.urlopen(page, timeout=60) as answer:
            assert secret not in answer.read(), page
    files = [file for file in cluster.state.rglob("*") if file.is_file() and file.parent != cluster.conf_dir]
    assert [file for file in files if secret in read_if_there(file)] == [cluster.state / "spark" / "secret"]


def read_if_there(file: Path) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):
        return file.read_bytes()
    return b""


@pytest.mark.attack("a shared machine", "an application ended through Spark's web pages", times=2)
def test_nobody_ends_anything_at_the_web_pages(cluster: SparkCluster, application: str) -> None:
    (running,) = overview(cluster)["activeapps"]
    answers = [
        press(f"{application}/jobs/", "job/kill/", {"id": "0"}),
        press(f"{cluster.web_url}/", "app/kill/", {"id": running["id"], "terminate": "true"}),
    ]
    assert set(answers) <= {403, 404, 405}
    assert [app["id"] for app in overview(cluster)["activeapps"]] == [running["id"]]
    with urllib.request.urlopen(f"{application}/api/v1/applications/{running['id']}/jobs", timeout=60) as reply:
        assert {job["status"] for job in json.load(reply)} == {"RUNNING"}


def press(page: str, button: str, fields: dict[str, str]) -> int:
    """The status of what a form of a page asks for, sent as a browser would with the token that the page holds."""
    browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
    token = re.search(rb'name="csrfToken" value="(\w+)"', browser.open(page, timeout=60).read())
    sent = fields | ({"csrfToken": token[1].decode()} if token else {})
    try:
        return int(browser.open(page + button, urlencode(sent).encode(), timeout=60).status)
    except urllib.error.HTTPError as error:
        return error.code
