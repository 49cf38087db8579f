"""Airflow's real services with a MySQL server and a Spark cluster of their own, as `make ui` starts them."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from init.local import airflow, machine, passwords, ui
from init.local.console import tail
from init.local.guard import descendants, signal_all
from init.local.layout import REPOSITORY, Layout
from init.local.ports import free_ports
from init.local.processes import Service
from init.local.stack import KEEPER, Stack, stop_services
from tests.support.airflow import DagFolder
from tests.support.metadata import take_metadata
from tests.support.servers import scratch_folder, spark_environment


@dataclass(frozen=True)
class Site:
    """A running Airflow."""

    layout: Layout
    services: ui.AirflowServices
    _tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.services.url

    def password(self, user: str) -> str:
        return str(json.loads(ui.passwords_file(self.layout).read_text())[user])

    def token(self, user: str) -> str:
        given = {"username": user, "password": self.password(user)}
        status, answer = self.request("POST", "/auth/token", given)
        assert status == 201, answer
        return str(answer["access_token"])

    def request(
        self, method: str, path: str, body: Any = None, token: str = "", accept: str = "*/*"
    ) -> tuple[int, Any]:
        """Status and body of a reply; JSON is read, anything else stays a text."""
        headers = {"Content-Type": "application/json", "Accept": accept} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=60) as reply:
                status, content = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode(errors="replace")

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """The reply of Airflow's public API to an admin, who logs in once and again when that is over."""
        for _ in range(2):
            if "admin" not in self._tokens:
                self._tokens["admin"] = self.token("admin")
            status, answer = self.request(method, f"/api/v2{path}", body, self._tokens["admin"])
            if status not in (401, 403):
                break
            del self._tokens["admin"]
        assert 200 <= status < 300, (path, answer)
        return answer

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        self.api("PATCH", f"/dags/{dag_id}", {"is_paused": False})
        run = self.api("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def wait_for_dags(self, count: int, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while self.api("GET", "/dags")["total_entries"] < count:
            assert time.monotonic() < deadline, self.api("GET", "/importErrors")
            time.sleep(1)

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 900) -> str:
        """The state in which a run ends."""
        deadline = time.monotonic() + seconds
        while True:
            state = str(self.api("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}")["state"])
            if state in ("success", "failed"):
                return state
            assert time.monotonic() < deadline, f"{dag_id} {run_id} is still {state}"
            time.sleep(0.5)

    def must_succeed(self, dag_id: str, run_id: str) -> None:
        """Wait until the run ends well; when it does not, the logs of the failed tasks and the scheduler say why."""
        if self.wait_for_run(dag_id, run_id) == "success":
            return
        failed = [task for task, state in self.states(dag_id, run_id).items() if state == "failed"]
        logs = [self.log(dag_id, run_id, task) for task in failed]
        lines = [f"{dag_id} {run_id}: {failed}", *(line for log in logs for line in log[-40:])]
        raise AssertionError("\n".join([*lines, tail(Service("airflow-scheduler", self.layout.state).log, 40)]))

    def log(self, dag_id: str, run_id: str, task_id: str) -> list[str]:
        """The lines of a task's first try."""
        return [str(line.get("event")) for line in self.log_records(dag_id, run_id, task_id)]

    def log_records(self, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """The log of a task's first try, with the details of its errors."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/logs/1"
        return list(self.api("GET", path)["content"])

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        found = self.api("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances")["task_instances"]
        return {task["task_id"]: str(task["state"]) for task in found}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api("GET", path)["value"]


@contextmanager
def running_site(
    studies: dict[str, str], path: str = "", objectives: Mapping[str, str] | None = None
) -> Iterator[Site]:
    """A site with these study files below a base URL with this path; everything it started is stopped at the end."""
    with scratch_folder() as folder:
        layout = checkout(folder, studies)
        for name, code in (objectives or {}).items():
            (layout.root / "dags" / "studies" / f"{name}.py").write_text(code)
        try:
            yield start(layout, path)
        finally:
            end_services(layout)


def checkout(folder: Path, studies: dict[str, str]) -> Layout:
    """A folder that looks like this checkout but for its studies and its state."""
    layout = Layout(folder)
    for name in ("plugins", "jobs", "init", "requirements"):
        (folder / name).symlink_to(REPOSITORY / name)
    DagFolder.create(folder / "dags", **studies)
    layout.prepare()
    layout.airflow_env.parent.mkdir()
    layout.airflow_env.symlink_to(Layout(REPOSITORY).airflow_env)
    layout.spark_env.symlink_to(spark_environment())
    return layout


def start(layout: Layout, path: str) -> Site:
    secrets = passwords.load_or_create(layout.state / "secrets.env")
    servers = Stack(layout, secrets, machine.java_home(), gpus=0, has_mysql=True)
    servers.ensure()
    spark = servers.spark
    connections = airflow.connections(layout, servers.mysql, spark.port, secrets, spark_page=spark.web_url)
    return serve(layout, connections, servers.java_home, path)


def serve(layout: Layout, connections: Mapping[str, str], java_home: str | None = None, path: str = "") -> Site:
    """Airflow alone; its other servers are there already, or nobody needs them."""
    env = environment(layout, connections, java_home)
    migrate(layout, env)
    services = ui.AirflowServices(layout, env, free_ports(1)[0], path)
    services.ensure()
    return Site(layout, services)


def migrate(layout: Layout, env: Mapping[str, str]) -> None:
    """As `make ui` does it, but in a moment."""
    with scratch_folder() as folder:
        take_metadata(layout, lambda: migrated_checkout(folder))
    airflow.migrate(layout, env)


def migrated_checkout(folder: Path) -> Layout:
    """A checkout whose Airflow was prepared by `make ui`'s own code."""
    layout = checkout(folder, {})
    airflow.migrate(layout, environment(layout, {passwords.FERNET: ""}))
    return layout


def environment(layout: Layout, connections: Mapping[str, str], java_home: str | None = None) -> dict[str, str]:
    """The variables of a site's Airflow, without those that steer the tests' own."""
    env = airflow.environment(layout, connections, java_home)
    return {name: value for name, value in env.items() if not name.startswith("AIRFLOW__") or name in _OURS}


def end_services(layout: Layout) -> None:
    """Stop a site that nobody needs any more, without the half minute that Airflow takes to end in good order.

    Each guard ends when its command has ended.
    """
    Service(KEEPER, layout.state).stop()
    for name in ui.COMMANDS:
        service = Service(name, layout.state)
        if service.running():
            signal_all(descendants(service.pid), signal.SIGKILL)
    stop_services(layout)


# What the tests' own environment sets for Airflow must not steer the services.
_OURS = {
    "AIRFLOW__CORE__DAGS_FOLDER",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CORE__PLUGINS_FOLDER",
    "AIRFLOW__CORE__LOAD_EXAMPLES",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED",
    passwords.FERNET,
}
