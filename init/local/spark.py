"""A Spark standalone master and one worker on the loopback address."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from init.local import scratch
from init.local.console import tail
from init.local.errors import SetupError
from init.local.layout import REPOSITORY
from init.local.ports import LOOPBACK, same_ports
from init.local.processes import Service, tied_to_parent
from init.local.spark_conf import conf_dir, kept_environment, scratch_dir, write_conf

GPU_DISCOVERY = REPOSITORY / "init" / "spark" / "gpu-discovery.sh"
START_S = 60.0
START_TRIES = 3


def spark_home(spark_env: Path) -> Path:
    """The pyspark folder of an environment. It holds Spark's scripts and jars.

    Raises:
        SetupError: The environment holds no pyspark.
    """
    found = sorted(spark_env.glob("lib/python3*/site-packages/pyspark"))
    if not found:
        raise SetupError(f"{spark_env} holds no pyspark: run `make setup`")
    return found[0]


def gpu_count(discovery_script: Path = GPU_DISCOVERY) -> int:
    """How many GPUs the discovery script finds; 0 if it fails."""
    try:
        found = subprocess.run([discovery_script], capture_output=True, text=True, timeout=30)
        return len(json.loads(found.stdout)["addresses"]) if found.returncode == 0 else 0
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return 0


def worker_cores() -> int:
    return max(2, len(os.sched_getaffinity(0)))


def worker_memory_mib() -> int:
    """Three quarters of the machine's memory. Spark only counts it, and reserves nothing."""
    total_kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    return max(1024, total_kib * 3 // 4 // 1024)


@dataclass(frozen=True)
class SparkCluster:
    """One master and one worker in a state folder. Only programs that can read their secret can submit to them.

    Attributes:
        state: The state folder.
        spark_env: The environment that holds pyspark.
        cores, memory_mib, gpus: What the worker offers.
        discovery_script: Prints the addresses of the GPUs; must find as many as `gpus`.
        java_home: JAVA_HOME for Spark; None to let Spark find Java.
        die_with_parent: For tests: both end with the process that started them, even if that is killed.
    """

    state: Path
    spark_env: Path
    cores: int = 2
    memory_mib: int = 4096
    gpus: int = 0
    discovery_script: Path = GPU_DISCOVERY
    java_home: str | None = None
    die_with_parent: bool = False

    @property
    def master(self) -> Service:
        return Service("spark-master", self.state)

    @property
    def worker(self) -> Service:
        return Service("spark-worker", self.state)

    @property
    def conf_dir(self) -> Path:
        """SPARK_CONF_DIR for programs that submit to this cluster."""
        return conf_dir(self.state)

    @property
    def port(self) -> int:
        return int(self.master.facts()["port"])

    @property
    def master_url(self) -> str:
        return f"spark://{LOOPBACK}:{self.port}"

    @property
    def web_url(self) -> str:
        return f"http://{LOOPBACK}:{self.master.facts()['web_port']}"

    def ensure(self) -> bool:
        """Starts master and worker unless both run with the present configuration. Returns whether it had to."""
        key = write_conf(self.state)
        if self.running() and self.master.facts().get("key") == key and self.alive_workers() == 1:
            return False
        known = self.master.last_facts()
        ports = [known.get("port"), known.get("web_port")]
        for attempt in range(1, START_TRIES + 1):
            self.stop()
            self._launch(key, *same_ports(*ports, None))
            try:
                self._wait()
                return True
            except SetupError:
                self.stop()
                if attempt == START_TRIES or not self._lost_a_port():
                    raise
                ports = [None, None]  # somebody else has taken one: try others
        raise AssertionError("the loop above returns or raises")

    def running(self) -> bool:
        return self.master.running() and self.worker.running()

    def stop(self) -> bool:
        stopped_worker = self.worker.stop()
        stopped_master = self.master.stop()
        scratch.empty(scratch_dir(self.state))
        return stopped_master or stopped_worker

    def alive_workers(self) -> int:
        """How many workers are alive, as the master says; 0 if it does not answer."""
        # Without a proxy, which the environment may name: it could not reach this machine's loopback.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{self.web_url}/json/", timeout=3) as answer:
                return int(json.load(answer)["aliveworkers"])
        except (OSError, ValueError, KeyError):
            return 0

    def _launch(self, key: str, port: int, web_port: int, worker_web_port: int) -> None:
        facts = {"port": port, "web_port": web_port, "key": key}
        self._start(self.master, "master.Master", ["--port", port, "--webui-port", web_port], facts)
        work = self.state / "spark" / "work"
        work.mkdir(parents=True, mode=0o700, exist_ok=True)
        limits = ["--cores", self.cores, "--memory", f"{self.memory_mib}M", "--work-dir", work]
        # The worker tries to connect until the master is up, so both can start at once.
        self._start(
            self.worker, "worker.Worker", ["--webui-port", worker_web_port, *limits, f"spark://{LOOPBACK}:{port}"], {}
        )

    def _start(self, service: Service, main_class: str, options: list[object], facts: Mapping[str, object]) -> None:
        launcher = spark_home(self.spark_env) / "bin" / "spark-class"
        command: list[str | Path] = [
            launcher,
            f"org.apache.spark.deploy.{main_class}",
            "--host",
            LOOPBACK,
            *map(str, options),
        ]
        service.start(tied_to_parent(command, tied=self.die_with_parent), self._environment(), facts)

    def _environment(self) -> dict[str, str]:
        kept = kept_environment(os.environ) | scratch.variables(scratch_dir(self.state))
        if self.java_home:
            kept["JAVA_HOME"] = self.java_home
        return kept | {
            "SPARK_HOME": str(spark_home(self.spark_env)),
            "SPARK_CONF_DIR": str(self.conf_dir),
            "SPARK_LOCAL_IP": LOOPBACK,
            # The folder for tables that workers download.
            "TUNING_STATE": str(self.state),
            "SPARK_DAEMON_MEMORY": "256m",
            # Two small programs that mostly wait, so a quick start matters more than speed.
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dspark.port.maxRetries=0",
            "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",
            "SPARK_WORKER_OPTS": self._worker_options(),
        }

    def _worker_options(self) -> str:
        options = "-Dspark.worker.cleanup.enabled=true"
        if self.gpus:
            options += f" -Dspark.worker.resource.gpu.amount={self.gpus}"
            # In quotes, because spark-class splits this text at blanks, and a path may hold some.
            options += f' -Dspark.worker.resource.gpu.discoveryScript="{self.discovery_script}"'
        return options

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while self.alive_workers() != 1:
            for service in (self.master, self.worker):
                if not service.running():
                    raise SetupError(f"the {service.name} ended at its start. The end of its log:\n{tail(service.log)}")
            if time.monotonic() > deadline:
                raise SetupError(f"the Spark worker did not register within {START_S:.0f} s, see {self.worker.log}")
            time.sleep(0.2)

    def _lost_a_port(self) -> bool:
        return any("BindException" in service.log.read_text(errors="replace") for service in (self.master, self.worker))
