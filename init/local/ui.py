"""Airflow as its users live in it: four services on the loopback address, each under this checkout's control.

The metadata database is SQLite and the logins are SimpleAuthManager's: both are for one person's machine, and Airflow
itself says so. docker-compose.yaml and the README's "Your own cluster" are for more.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from init.local.airflow import program
from init.local.console import detail, say, tail
from init.local.errors import SetupError
from init.local.layout import REPOSITORY, Layout
from init.local.passwords import write_private
from init.local.ports import LOOPBACK, accepts, can_be_had, free_ports
from init.local.processes import Service

START_S = 180.0
PORT = 8080
USERS = {"admin": "admin", "viewer": "viewer"}  # name: role
SCHEDULER = "airflow-scheduler"
# In the order they start; `make stop` goes the other way round, so that a task can still report its end.
COMMANDS = {
    "airflow-api-server": ("api-server",),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
    SCHEDULER: ("scheduler", "--skip-serve-logs"),
}


@dataclass(frozen=True)
class AirflowServices:
    """The API server, DAG processor, triggerer and scheduler of one checkout.

    Attributes:
        env: What `init.local.airflow.environment` gave.
        port: Port wished for the web pages; a free one is taken where somebody else has it.
        path: Path of the base URL, such as /airflow behind a reverse proxy; empty for none.
    """

    layout: Layout
    env: Mapping[str, str]
    port: int = PORT
    path: str = ""

    @property
    def api_server(self) -> Service:
        return Service("airflow-api-server", self.layout.state)

    @property
    def services(self) -> list[Service]:
        return [Service(name, self.layout.state) for name in COMMANDS]

    @property
    def url(self) -> str:
        return str(self.api_server.facts()["url"])

    def ensure(self) -> bool:
        """Starts what does not run, and waits until all of it works. Returns whether it had to start anything.

        Raises:
            SetupError: A service ended at its start or did not become healthy; says which log to read.
        """
        if self.outdated() or not self._at_its_port():
            self.stop()
        missing = [service for service in self.services if not service.running()]
        facts = self._facts()
        write_passwords(self.layout)
        for service in missing:
            if service.name == SCHEDULER:
                self._wait([self.api_server], self._silent)  # a task that finds no API server loses a try
            self._start(service, facts)
        self._wait(self.services, self.unwell)
        return bool(missing)

    def outdated(self) -> bool:
        """Whether the addresses of Spark and MySQL, which all of the services hold, are others now."""
        return self.api_server.facts().get("key") != self._key()

    def _at_its_port(self) -> bool:
        """Whether the API server is, or can be, where the others know it."""
        return self.api_server.running() or can_be_had(self.api_server.facts()["port"])

    def start_again(self, service: Service) -> None:
        """Starts one of them that ended, where the others know it.

        Raises:
            SetupError: Its port is in use.
        """
        facts = self.api_server.facts()
        if service == self.api_server and not can_be_had(facts["port"]):
            raise SetupError(f"port {facts['port']} is in use")
        self._start(service, facts)

    def _start(self, service: Service, facts: Mapping[str, Any]) -> None:
        command = [str(program(self.layout)), *COMMANDS[service.name]]
        service.start(guarded(command), service_environment(self.layout, self.env, facts["url"]), facts)

    def stop(self) -> None:
        for service in reversed(self.services):
            service.stop()

    def _facts(self) -> dict[str, Any]:
        if known := self.api_server.facts():
            return known
        port = free_ports(1)[0] if accepts(self.port) else self.port
        return {"port": port, "url": f"http://{LOOPBACK}:{port}{self.path}", "key": self._key()}

    def _key(self) -> str:
        """Changes when the connections do."""
        connections = sorted(item for item in self.env.items() if item[0].startswith("AIRFLOW_CONN_"))
        return sha256(repr(connections).encode()).hexdigest()[:16]

    def _wait(self, services: list[Service], missing: Callable[[], list[str]]) -> None:
        """Waits until nothing is missing of what these services, which have been started, are."""
        started = shown = time.monotonic()
        while unwell := missing():
            for service in services:
                if not service.running():
                    raise SetupError(f"{service.name} ended at its start. The end of its log:\n{tail(service.log)}")
            now = time.monotonic()
            if now - started > START_S:
                raise SetupError(f"{', '.join(unwell)} did not get ready in {START_S:.0f} s, see {self.layout.logs}")
            if now - shown > 5:
                shown = now
                detail(f"waiting for {', '.join(unwell)} ({now - started:.0f} s)")
            time.sleep(0.5)

    def _silent(self) -> list[str]:
        return [] if get_json(f"{self.url}/api/v2/monitor/health") else ["the API server"]

    def unwell(self) -> list[str]:
        """The parts that are not ready, as Airflow itself sees it."""
        health = get_json(f"{self.url}/api/v2/monitor/health")
        if health is None:
            return ["the API server"]
        parts = ("scheduler", "dag_processor", "triggerer")
        return [
            f"the {part.replace('_', ' ')}" for part in parts if (health.get(part) or {}).get("status") != "healthy"
        ]


def guarded(command: list[str]) -> list[str]:
    """The command below init/local/guard.py, which lets none of its processes outlive it."""
    return [sys.executable, "-P", str(REPOSITORY / "init" / "local" / "guard.py"), *command]


def passwords_file(layout: Layout) -> Path:
    return layout.airflow_home / "passwords.json"


def write_passwords(layout: Layout) -> None:
    """Generates a password for each login, once; Airflow would print those it has to make up into its log."""
    file = passwords_file(layout)
    known = json.loads(file.read_text()) if file.exists() else {}
    complete = {name: known.get(name) or secrets.token_urlsafe(12) for name in USERS}
    if complete != known:
        write_private(file, json.dumps(complete) + "\n")


def service_environment(layout: Layout, env: Mapping[str, str], url: str) -> dict[str, str]:
    """The environment of the services: what a run has, with addresses, logins and closed files."""
    address, _, port_and_path = url.removeprefix("http://").partition(":")
    return dict(env) | {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file(layout)),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": address,
        "AIRFLOW__API__PORT": port_and_path.partition("/")[0],
        "AIRFLOW__API__WORKERS": "1",
        # On a busy machine the API server's first answer to a task takes longer than the default of 5 s.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # A task waits about a minute, not ten seconds, for an API server that is started again.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "12",
        "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "10",
        # A task that was killed keeps its slot of the pool until then; it says every 5 s that it is there.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }


def get_json(url: str) -> dict[str, Any] | None:
    """A JSON object from a local service; None when it does not answer with one."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as answer:
            found = json.load(answer)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def show_login(layout: Layout, services: AirflowServices) -> None:
    known = json.loads(passwords_file(layout).read_text())
    say(f"Airflow is ready: {services.url}/")
    for name, role in USERS.items():
        detail(f"log in as {name} (role {role}), password {known[name]}")
    detail(f"the passwords are kept in {passwords_file(layout)}; `make stop` ends everything")
    detail(f"a service that ends is started again, which {layout.logs / 'keeper.log'} and the next `make ui` tell")
