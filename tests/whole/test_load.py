"""Many people at once on the services of `make ui`, whose metadata database is SQLite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from init.local import passwords
from tests.support.servers import scratch_folder
from tests.support.site import Site, checkout, end_services, serve
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

CLIENTS = 8
TRIGGERS = 50
# Of a run as small as there is: the point is what Airflow itself writes down for each.
LIGHT = """
from airflow.sdk import dag, task


@task
def work() -> int:
    return 1


@dag(schedule=None, max_active_runs=8)
def light():
    work()


light()
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with scratch_folder() as folder:
        layout = checkout(folder, {})
        (folder / "dags" / "light.py").write_text(LIGHT)
        secrets = passwords.load_or_create(layout.state / "secrets.env")
        try:
            yield serve(layout, {passwords.FERNET: secrets[passwords.FERNET]})
        finally:
            end_services(layout)


def trigger(site: Site, token: str, count: int, together: Barrier) -> list[int]:
    """The status of each of so many triggers."""
    together.wait(timeout=60)
    body: dict[str, object] = {"logical_date": None, "conf": {}}
    return [site.request("POST", "/api/v2/dags/light/dagRuns", body, token)[0] for _ in range(count)]


def states(site: Site) -> Counter[str]:
    runs = site.api("GET", f"/dags/light/dagRuns?limit={2 * TRIGGERS}")["dag_runs"]
    return Counter(str(run["state"]) for run in runs)


def test_fifty_triggers_at_once_are_all_taken_and_all_run(site: Site) -> None:
    site.wait_for_dags(1)
    site.must_succeed("light", site.trigger("light", {}))  # some of the API server is made at the first task's request
    pids = {service.name: service.pid for service in site.services.services}
    token, together = site.token("admin"), Barrier(CLIENTS)
    counts = [TRIGGERS // CLIENTS + (client < TRIGGERS % CLIENTS) for client in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(lambda count: trigger(site, token, count, together), counts))
    assert Counter(status for statuses in answers for status in statuses) == {200: TRIGGERS}
    wait_until(lambda: states(site) == {"success": 1 + TRIGGERS}, f"every run to end: {states(site)}", 900, every_s=2)
    assert [service.name for service in site.services.services if not service.running()] == []
    assert {service.name: service.pid for service in site.services.services} == pids
    assert site.services.unwell() == []
    for service in site.services.services:
        assert "database is locked" not in service.log.read_text(errors="replace"), service.name
