"""`make ui`: Airflow's five services on the loopback address, started and stopped by this checkout.

The metadata database is SQLite, and logins are those of SimpleAuthManager. Airflow recommends both only for one
person's machine. For anything larger see docker-compose.yaml and docs/tutorials/own_cluster.md.
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
from init.local.log_server import LOG_SERVER, log_server_command, log_variables
from init.local.passwords import write_private
from init.local.ports import LOOPBACK, accepts, can_be_had, free_ports
from init.local.processes import Service

START_S = 180.0
PORT = 8080
USERS = {"admin": "admin", "viewer": "viewer"}  # name: role
SCHEDULER = "airflow-scheduler"
API_SERVER = "the API server"  # as messages call it
# In the order in which they start. They stop in the reverse order, so that a task can still report its end.
COMMANDS = {
    LOG_SERVER: (),
    "airflow-api-server": ("api-server",),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
    SCHEDULER: ("scheduler", "--skip-serve-logs"),
}
# The facts that hold the ports of those that listen.
PORTS = {LOG_SERVER: "log_port", "airflow-api-server": "port"}


@dataclass(frozen=True)
class AirflowServices:
    """The API server, DAG processor, triggerer, scheduler and log server of one checkout.

    Attributes:
        layout: The checkout.
        env: The environment from `init.local.airflow.environment`.
        port: Port for the web pages. If it is taken, a free one is used.
        path: Path of the base URL, for example /airflow behind a reverse proxy; empty for none.
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
        """Starts the services that do not run, and waits until all work. Returns whether it had to start any.

        Raises:
            SetupError: A service ended at its start, or did not become healthy. Says which log to read.
        """
        if self.outdated() or not self._at_their_ports():
            self.stop()
        missing = [service for service in self.services if not service.running()]
        facts = self._facts()
        write_passwords(self.layout)
        for service in missing:
            if service.name == SCHEDULER:
                # The scheduler starts tasks at once, and a task that finds no API server loses one of its tries.
                self._wait([self.api_server], self._silent)
            self._start(service, facts)
        self._wait(self.services, self.unwell)
        return bool(missing)

    def outdated(self) -> bool:
        """Whether the services run with old addresses of Spark or MySQL, or without a log server."""
        facts = self.api_server.facts()
        return facts.get("key") != self._key() or "log_port" not in facts

    def _at_their_ports(self) -> bool:
        """Whether those that listen run, or can be started, at the ports that the others know."""
        facts = self.api_server.facts()
        return all(Service(name, self.layout.state).running() or can_be_had(facts[p]) for name, p in PORTS.items())

    def start_again(self, service: Service) -> None:
        """Starts a service that ended, with the same addresses as before.

        Raises:
            SetupError: Its port is in use.
        """
        facts = self.api_server.facts()
        port = facts.get(PORTS.get(service.name, ""))
        if port is not None and not can_be_had(port):
            raise SetupError(f"port {port} is in use")
        self._start(service, facts)

    def _start(self, service: Service, facts: Mapping[str, Any]) -> None:
        environment = service_environment(self.layout, self.env, facts["url"]) | log_variables(facts["log_port"])
        command = [str(program(self.layout)), *COMMANDS[service.name]]
        if service.name == LOG_SERVER:
            command = log_server_command(self.layout, facts["log_port"])
        service.start(guarded(command), environment, facts)

    def stop(self) -> None:
        for service in reversed(self.services):
            service.stop()

    def _facts(self) -> dict[str, Any]:
        if known := self.api_server.facts():
            return known
        spare, log_port = [port for port in free_ports(3) if port != self.port][:2]
        port = spare if accepts(self.port) else self.port
        return {"port": port, "log_port": log_port, "url": f"http://{LOOPBACK}:{port}{self.path}", "key": self._key()}

    def _key(self) -> str:
        """A text that changes with the connections."""
        connections = sorted(item for item in self.env.items() if item[0].startswith("AIRFLOW_CONN_"))
        return sha256(repr(connections).encode()).hexdigest()[:16]

    def _wait(self, services: list[Service], missing: Callable[[], list[str]]) -> None:
        """Waits until `missing` returns an empty list. Meanwhile, none of these services may end."""
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
        return [] if self._health() else [API_SERVER]

    def _health(self) -> dict[str, Any] | None:
        """What Airflow says of its parts; None while nobody answers."""
        return get_json(f"{self.url}/api/v2/monitor/health")

    def unwell(self) -> list[str]:
        """The services that are not ready, as Airflow itself reports. Of its log server it does not know."""
        health = self._health()
        if health is None:
            return [API_SERVER]
        parts = [part for part in ("scheduler", "dag_processor", "triggerer") if not _is_healthy(health.get(part))]
        if not accepts(self.api_server.facts()["log_port"]):
            parts.append("log_server")
        return [f"the {part.replace('_', ' ')}" for part in parts]


def _is_healthy(part: Any) -> bool:
    return isinstance(part, dict) and part.get("status") == "healthy"


def guarded(command: list[str]) -> list[str]:
    """The command, run by init/local/guard.py, which ends every process that it leaves behind."""
    return [sys.executable, "-P", str(REPOSITORY / "init" / "local" / "guard.py"), *command]


def passwords_file(layout: Layout) -> Path:
    return layout.airflow_home / "passwords.json"


def write_passwords(layout: Layout) -> None:
    """Generates a password for each login, once. If Airflow generated them, it would print them into its log."""
    file = passwords_file(layout)
    known = json.loads(file.read_text()) if file.exists() else {}
    complete = {name: known.get(name) or secrets.token_urlsafe(12) for name in USERS}
    if complete != known:
        write_private(file, json.dumps(complete) + "\n")


def service_environment(layout: Layout, env: Mapping[str, str], url: str) -> dict[str, str]:
    """The environment of the services: that of a run, with addresses, logins, and private log files."""
    address, _, port_and_path = url.removeprefix("http://").partition(":")
    return {
        **without_proxy(env),
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
        # On a busy machine, the API server's first answer to a task may take longer than the default of 5 s.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # A task waits about a minute, instead of ten seconds, for an API server that is being restarted.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "12",
        "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "10",
        # A task that was killed holds its slot of the pool for this long. A live task sends a heartbeat every 5 s.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """The environment, with which no request to this machine goes through the shell's HTTP_PROXY."""
    known = env.get("no_proxy") or env.get("NO_PROXY") or ""
    direct = known if known == "*" else ",".join(filter(None, [known, LOOPBACK]))
    # Some libraries read one spelling, some the other.
    return {**env, "no_proxy": direct, "NO_PROXY": direct}


def get_json(url: str) -> dict[str, Any] | None:
    """A JSON object from a local service; None if the service does not answer with one."""
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
    detail(f"a service that ends is restarted; {layout.logs / 'keeper.log'} and the next `make ui` say so")
