"""init/spark: the scripts for the machines of a real cluster, run as one machine that is both master and worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from init.local.layout import REPOSITORY
from init.local.ports import LOOPBACK, accepts, free_ports
from init.local.processes import birth
from tests.support.processes import processes_naming, zombie_with_a_living_thread
from tests.support.programs import run_program
from tests.support.servers import TWO_GPUS, scratch_folder, spark_environment
from tests.support.submit import submit
from tests.support.waiting import wait_until

SCRIPTS = REPOSITORY / "init" / "spark"
SECRET = "0123456789abcdef" * 4
needs_spark = pytest.mark.skipif(not spark_environment().exists(), reason="no Spark environment: run `make setup`")


class Machine:
    """One machine of a cluster, with two GPUs that do not exist."""

    def __init__(self, folder: Path) -> None:
        discovery = folder / "two gpus.sh"
        discovery.write_text(TWO_GPUS)
        discovery.chmod(0o755)
        self.port, self.web_port, self.worker_web_port = free_ports(3)
        self.master_url = f"spark://{LOOPBACK}:{self.port}"
        self.state = folder / "cluster"
        self.secret = folder / "secret file"
        self.secret.write_text(SECRET + "\n")
        self.secret.chmod(0o600)
        self.env = os.environ | {
            "TUNING_SPARK_ENV": str(spark_environment()),
            "TUNING_SPARK_STATE": str(self.state),
            "TUNING_GPU_DISCOVERY": str(discovery),
            "TUNING_SPARK_SECRET_FILE": str(self.secret),
            "SPARK_DAEMON_MEMORY": "256m",
        }
        self.env.pop("SPARK_CONF_DIR", None)  # another test's cluster

    def call(self, script: str, *options: object) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPTS / script), *map(str, options)]
        return run_program(command, env=self.env, code=None)

    def start_master(self) -> subprocess.CompletedProcess[str]:
        return self.call("start-master.sh", "--host", LOOPBACK, "--port", self.port, "--webui-port", self.web_port)

    def start_worker(self, *options: object) -> subprocess.CompletedProcess[str]:
        where = ["--master", self.master_url, "--host", LOOPBACK, "--webui-port", self.worker_web_port]
        return self.call("start-worker.sh", *where, *options)

    def joined_worker(self) -> dict[str, Any]:
        """The one worker, as the master describes it; it joins a moment after it starts."""
        return dict(wait_until(lambda: self.status()["workers"], "a worker to join")[0])

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.web_port}/json/", timeout=60) as answer:
            status: dict[str, Any] = json.load(answer)
        return status


@pytest.fixture
def machine() -> Iterator[Machine]:
    with scratch_folder() as folder:
        one = Machine(folder)
        yield one
        one.call("stop.sh")


@needs_spark
def test_a_worker_removes_what_applications_of_the_past_left(machine: Machine) -> None:
    every_second = "-Dspark.worker.cleanup.interval=1 -Dspark.worker.cleanup.appDataTtl=3600"
    machine.env["SPARK_WORKER_OPTS"] = every_second
    old, new = (machine.state / "work" / f"app-20260101000000-000{number}" / "0" / "stderr" for number in (1, 2))
    for file in (old, new):
        file.parent.mkdir(parents=True)
        file.write_text("the words of an executor")
    for path in (old, old.parent, old.parents[1]):
        os.utime(path, (1, 1))
    assert machine.start_master().returncode == 0
    assert machine.start_worker().returncode == 0
    wait_until(lambda: not old.parents[1].exists(), "the old application to be removed")
    assert new.exists()


@needs_spark
def test_a_history_server_removes_old_event_logs(machine: Machine, tmp_path: Path) -> None:
    events, conf = tmp_path / "events", tmp_path / "conf"
    events.mkdir()
    run_program([SCRIPTS / "make-conf.sh", conf, machine.secret], env=machine.env)
    log = events / "app-20260101000000-0001"
    lines = [
        {"Event": "SparkListenerLogStart", "Spark Version": "4.0.0"},
        {"Event": "SparkListenerApplicationStart", "App Name": "a", "App ID": log.name, "Timestamp": 1, "User": "u"},
        {"Event": "SparkListenerApplicationEnd", "Timestamp": 2},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(log, (1, 1))
    (spark_home,) = spark_environment().glob("lib/python3*/site-packages/pyspark")
    settings = {"logDirectory": events.as_uri(), "cleaner.interval": "1s"}
    options = " ".join(f"-Dspark.history.fs.{name}={value}" for name, value in settings.items())
    options += f" -Dspark.history.ui.port={machine.port}"
    env = machine.env | {"SPARK_CONF_DIR": str(conf), "SPARK_HISTORY_OPTS": options, "SPARK_LOCAL_IP": LOOPBACK}
    command = [str(spark_home / "bin" / "spark-class"), "org.apache.spark.deploy.history.HistoryServer"]
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: not log.exists() or server.poll() is not None, "the old event log to be removed")
        assert not log.exists()
    finally:
        server.kill()
        server.wait(timeout=60)


@needs_spark
def test_a_cluster_starts_once_offers_its_gpus_and_stops(machine: Machine) -> None:
    started = machine.start_master()
    assert started.returncode == 0, started.stderr
    assert f"--master {machine.master_url}" in started.stdout
    assert f"--secret-file {machine.secret}" in started.stdout
    assert not accepts(6066), "the REST server takes programs without a password"
    assert "it offers 2 GPUs" in machine.start_worker("--cores", 2, "--memory", "1g").stdout
    assert "master runs already" in machine.start_master().stdout
    assert "worker runs already" in machine.start_worker().stdout

    worker = machine.joined_worker()
    assert (worker["state"], worker["cores"]) == ("ALIVE", 2)
    assert worker["resources"] == {"gpu": {"name": "gpu", "addresses": ["0", "1"]}}

    assert machine.call("stop.sh").stdout == "worker stopped\nmaster stopped\n"
    assert machine.call("stop.sh").stdout == "worker does not run\nmaster does not run\n"
    assert not accepts(machine.port), f"these name the port: {processes_naming(str(machine.port))}"


def test_a_daemon_runs_until_its_last_thread_has_ended() -> None:
    def named(pid: int) -> str | None:
        """What common.sh calls a process."""
        command: list[str | Path] = ["bash", "-euc", 'source "$1"; birth "$2"', "bash", SCRIPTS / "common.sh", str(pid)]
        return run_program(command).stdout.strip() or None

    with zombie_with_a_living_thread() as process:
        assert named(process.pid) == birth(process.pid) is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert named(process.pid) is None  # a corpse that nobody has taken away yet
        process.wait(timeout=60)
        assert named(process.pid) is None


def test_a_daemon_that_does_not_end_when_asked_is_killed(machine: Machine) -> None:
    stubborn = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done"], stdout=subprocess.PIPE)
    try:
        assert stubborn.stdout
        assert stubborn.stdout.readline()
        machine.state.mkdir()
        (machine.state / "master.pid").write_text(f"{stubborn.pid} {birth(stubborn.pid)}\n")
        assert machine.call("stop.sh", "master").stdout == "master stopped\n"
        assert stubborn.wait(timeout=0) == -signal.SIGKILL
    finally:
        stubborn.kill()
        stubborn.communicate()


@needs_spark
def test_a_master_that_cannot_start_says_so(machine: Machine) -> None:
    machine.env["SPARK_DAEMON_MEMORY"] = "much"
    done = machine.start_master()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Invalid maximum heap size: -Xmxmuch" in done.stderr
    assert "the master ended at its start, see" in done.stderr


@needs_spark
def test_a_port_that_is_taken_is_refused(machine: Machine) -> None:
    with socket.create_server((LOOPBACK, machine.port)):
        done = machine.start_master()
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"port {machine.port} of {LOOPBACK} is in use by another program" in done.stderr


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("start-master.sh", [], "--host must be the address"),
        ("start-master.sh", ["--nope"], "unknown argument: --nope"),
        ("start-master.sh", ["--host", "x", "--secret-file"], "--secret-file needs a file"),
        ("start-worker.sh", ["--host", "x"], "--master must look like spark://HOST:PORT, got ''"),
        ("start-worker.sh", ["--master", "spark://x:1"], "--host must be the address"),
        (
            "start-worker.sh",
            ["--master", "spark://x:1", "--host", "x", "--gpus", "3"],
            "--gpus is 3 but this machine reports 2",
        ),
        (
            "start-worker.sh",
            ["--master", "spark://x:1", "--host", "x", "--gpus", "all"],
            "--gpus must be a number or auto",
        ),
        ("stop.sh", ["driver"], "usage:"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(machine: Machine, script: str, options: list[str], message: str) -> None:
    done = machine.call(script, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert message in done.stderr


# On a worker: what its environment is, and where its temporary files go.
PROGRAM = """
import json, os, pathlib, sys, tempfile
from pyspark import SparkContext

def task(file):
    pathlib.Path(file).write_text(json.dumps({**os.environ, "tempfile": tempfile.gettempdir()}))

SparkContext().parallelize([sys.argv[1]], 1).foreach(task)
"""


@needs_spark
@pytest.mark.slow
@pytest.mark.attack(
    "a shared machine", "an application without the secret, or the shell's passwords in executors", times=4
)
def test_only_who_has_the_secret_runs_programs_and_they_see_no_password(machine: Machine, tmp_path: Path) -> None:
    shell = {"SECRET_X": "s", "a.dotted": "d", "TUNING_DB_ADMIN_PASSWORD": "p", "MY_REGION": "here"}
    machine.env |= shell | {"TUNING_SPARK_ENVIRONMENT": "MY_REGION"}
    assert machine.start_master().returncode == 0
    assert machine.start_worker("--cores", 1, "--memory", "1g").returncode == 0
    machine.joined_worker()
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        arguments, program = [str(tmp_path / name)], tmp_path / "program.py"
        return submit(machine.master_url, tmp_path, arguments, None, program, **environment)

    # A conf folder of its own: without one a stranger's would be the one of the cluster that other tests use.
    assert run("stranger", SPARK_CONF_DIR=str(SCRIPTS / "conf")).returncode != 0
    assert not (tmp_path / "stranger").exists()
    ours = run("ours", TUNING_SPARK_SECRET_FILE=str(machine.secret), TUNING_STATE=str(tmp_path))
    assert ours.returncode == 0, ours.stdout
    seen = json.loads((tmp_path / "ours").read_text())
    assert {name: seen[name] for name in shell if name in seen} == {"MY_REGION": "here"}
    assert seen["tempfile"] == str(machine.state / "tmp")

    machine.call("stop.sh")
    assert not (machine.state / "tmp").exists()


@needs_spark
@pytest.mark.parametrize("script", ["start-master.sh", "start-worker.sh"])
@pytest.mark.attack("a shared machine", "a Spark cluster that asks for no secret, started by mistake")
def test_a_cluster_without_a_secret_must_be_asked_for(machine: Machine, script: str) -> None:
    del machine.env["TUNING_SPARK_SECRET_FILE"]
    options = ["--host", LOOPBACK] + ["--master", machine.master_url] * (script == "start-worker.sh")
    done = machine.call(script, *options)
    assert done.returncode == 1
    assert "without a secret whoever reaches this" in done.stderr
    assert "give --secret-file FILE, or say --no-authentication" in done.stderr


@needs_spark
def test_a_cluster_without_a_secret_can_be_had(machine: Machine) -> None:
    del machine.env["TUNING_SPARK_SECRET_FILE"]
    where = ["--host", LOOPBACK, "--port", machine.port, "--webui-port", machine.web_port]
    started = machine.call("start-master.sh", *where, "--no-authentication")
    assert started.returncode == 0, started.stderr
    assert "--host THEIR-ADDRESS --no-authentication" in started.stdout


@needs_spark
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_secret_that_others_can_open_is_refused(machine: Machine, mode: int) -> None:
    machine.secret.chmod(mode)
    done = machine.start_master()
    assert done.returncode == 1
    assert f"other accounts can open the secret file: chmod 600 {machine.secret}" in done.stderr


def with_nvidia_smi(tmp_path: Path, script: str) -> subprocess.CompletedProcess[str]:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return run_program([SCRIPTS / "gpu-discovery.sh"], env=env, code=None)


def test_gpu_discovery_prints_sparks_json(tmp_path: Path) -> None:
    found = with_nvidia_smi(tmp_path, "printf '0\\n1\\n10\\n'")
    assert json.loads(found.stdout) == {"name": "gpu", "addresses": ["0", "1", "10"]}


@pytest.mark.parametrize("script", ["exit 9", "exit 0"], ids=["no driver", "no GPU"])
def test_gpu_discovery_fails_where_there_is_none(tmp_path: Path, script: str) -> None:
    found = with_nvidia_smi(tmp_path, script)
    assert (found.returncode != 0, found.stdout) == (True, "")
