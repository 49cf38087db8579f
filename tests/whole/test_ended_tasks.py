"""A tune task that is ended while it trains, each way an operator has: on real services, MySQL and Spark.

Whatever ends it, no trial stays running, Spark's temporary files go, and the run goes on or does not, as it was told.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
import pytest
import sqlalchemy as sa

from init.local import passwords
from init.local.airflow import DATABASE, TUNING_USER
from init.local.guard import descendants, signal_all
from init.local.layout import Layout
from init.local.mysql import MysqlServer, find_program
from init.local.processes import Service, birth
from init.local.spark_conf import scratch_dir
from init.local.stack import stop_services
from optuna_spark.storage.trial_marks import run_id_of
from tests.support.processes import processes_naming
from tests.support.servers import scratch_folder, spark_environment
from tests.support.site import Site, checkout, end_services, start
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

TRIALS = 200
STUDY = (
    f"objective: gate:gated\nretries: 2\nretry_delay_s: 1\ntrials: {TRIALS}\ntasks: 2\nseed: 1\ndistribution: rdd\n"
    "search_space: {x: {type: float, low: 0, high: 1}}\nspark:\n  executor_memory: 512m\n"
)
# A trial takes a second until the gate is open: a run is long enough to be ended, and short afterwards.
GATED = """
import time
from pathlib import Path


def gated(trial):
    value = trial.suggest_float("x", 0, 1)
    if not Path({gate!r}).exists():
        time.sleep(1)
    return value
"""


@dataclass
class Workplace:
    """A site that may be stopped and started again, and its study."""

    layout: Layout
    site: Site
    study: str = "ended"

    def drivers(self) -> list[int]:
        """spark-submit and the Python below it, which name the run's spec."""
        return processes_naming(f"{self.layout.state}/scratch/tune-")

    @property
    def dag(self) -> str:
        return f"tune_{self.study}"

    @property
    def gate(self) -> Path:
        return gate_of(self.layout)

    def trials(self, *states: str) -> list[optuna.trial.FrozenTrial]:
        secrets = passwords.load_or_create(self.layout.state / "secrets.env")
        server = MysqlServer(self.layout.state, secrets[passwords.DATABASE_ADMIN])
        url = sa.URL.create(
            "mysql+pymysql", TUNING_USER, secrets[passwords.DATABASE], server.host, server.port, DATABASE
        ).render_as_string(hide_password=False)
        try:
            study = optuna.load_study(study_name=self.study, storage=url)
        except (KeyError, sa.exc.DBAPIError, optuna.exceptions.StorageInternalError):
            return []
        return [trial for trial in study.get_trials() if trial.state.name in states]

    def task(self, run_id: str) -> dict[str, Any]:
        path = f"/dags/{self.dag}/dagRuns/{quote(run_id)}/taskInstances/tune"
        return dict(self.site.api("GET", path))

    def files(self) -> list[str]:
        """What drivers and executors have left in the folders for temporary files; the worker keeps an empty one."""
        folders = (self.layout.scratch, scratch_dir(self.layout.state))
        names = ("spark-", "blockmgr-", "optuna-spark-", "liblz4", "pymp-")
        found = [path for folder in folders for path in folder.iterdir() if path.name.startswith(names)]
        return [path.name for path in found if not path.is_dir() or any(path.iterdir())]


def gate_of(layout: Layout) -> Path:
    """The file that lets trials be short; gated knows it by its path."""
    return layout.root / "gate"


@pytest.fixture(scope="module")
def place() -> Iterator[Workplace]:
    if find_program() is None or not spark_environment().exists():
        pytest.skip("needs a MySQL server and the Spark environment: run `make setup`")
    with scratch_folder() as folder:
        layout = checkout(folder, {"ended": STUDY})
        try:
            objective = layout.root / "dags" / "studies" / "gate.py"
            objective.write_text(GATED.format(gate=str(gate_of(layout))))
            found = Workplace(layout, start(layout, ""))
            found.site.wait_for_dags(1)
            yield found
        finally:
            end_services(layout)


@pytest.fixture
def run_id(place: Workplace) -> str:
    """A run in the middle of its trials."""
    place.gate.unlink(missing_ok=True)
    found = place.site.trigger(place.dag, {"mode": "reset"})
    wait_until(lambda: running(place, found), "a run in the middle of its trials", 300, 0.5)
    assert place.files()  # else there would be nothing to see of their going
    return found


def running(place: Workplace, run_id: str) -> bool:
    states = place.site.states(place.dag, run_id)
    assert "failed" not in states.values(), place.site.log(place.dag, run_id, "tune")
    if states["tune"] != "running":
        return False
    mine = [t for t in place.trials("COMPLETE") if str(run_id_of(t)).startswith(f"{run_id}.")]
    return len(mine) >= 2  # so that the workers are in the middle of others


def mark_task(state: str) -> Callable[[Workplace, str], None]:
    def mark(place: Workplace, run_id: str) -> None:
        path = f"/dags/{place.dag}/dagRuns/{quote(run_id)}/taskInstances/tune"
        place.site.api("PATCH", path, {"new_state": state})

    return mark


def mark_run(state: str) -> Callable[[Workplace, str], None]:
    def mark(place: Workplace, run_id: str) -> None:
        place.site.api("PATCH", f"/dags/{place.dag}/dagRuns/{quote(run_id)}", {"state": state})

    return mark


@pytest.mark.parametrize(
    ("mark", "state"),
    [(mark_task("success"), "success"), (mark_task("failed"), "failed"), (mark_run("failed"), "failed")],
)
def test_what_was_marked_keeps_its_state_and_leaves_nothing(
    mark: Callable[[Workplace, str], None], state: str, place: Workplace, run_id: str
) -> None:
    assert place.drivers()
    mark(place, run_id)
    wait_until(lambda: not place.drivers(), "the driver to end")
    assert place.trials("RUNNING") == []
    wait_until(lambda: not place.files(), "the temporary files to go")
    time.sleep(8)  # longer than a retry takes to begin
    assert (place.task(run_id)["state"], place.task(run_id)["try_number"]) == (state, 1)
    assert not place.drivers()


def finishes(place: Workplace, run_id: str) -> None:
    """The run goes on with its second try, and has exactly its trials."""
    place.gate.touch()
    place.site.must_succeed(place.dag, run_id)
    assert place.task(run_id)["try_number"] == 2
    assert len(place.trials("COMPLETE")) == TRIALS
    assert place.trials("RUNNING") == []
    wait_until(lambda: not place.files(), "the temporary files to go")


def test_a_task_of_a_scheduler_that_is_stopped_goes_on_when_it_is_back(place: Workplace, run_id: str) -> None:
    scheduler = Service("airflow-scheduler", place.layout.state)
    below = descendants(scheduler.pid)
    os.kill(scheduler.pid, signal.SIGTERM)
    wait_until(lambda: not any(birth(pid) for pid in [scheduler.pid, *below]), "the scheduler's processes to end")
    assert place.trials("RUNNING") == []
    wait_until(lambda: not place.files(), "the temporary files to go")
    assert place.task(run_id)["state"] == "up_for_retry"
    place.site.services.ensure()
    finishes(place, run_id)


@contextmanager
def slow_start(service: Service, seconds: float) -> Iterator[None]:
    """Holds the service still for a while as soon as it is started, as a busy machine does."""

    def hold() -> None:
        wait_until(service.running, f"the start of {service.name}")
        os.kill(service.pid, signal.SIGSTOP)
        held = [service.pid, *descendants(service.pid)]
        signal_all(held, signal.SIGSTOP)
        time.sleep(seconds)
        signal_all(held, signal.SIGCONT)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        yield
        held.result()


def test_a_run_goes_on_after_make_stop_and_make_ui(place: Workplace, run_id: str) -> None:
    stop_services(place.layout)
    with slow_start(Service("airflow-api-server", place.layout.state), seconds=25):
        place.site = start(place.layout, "")
    assert place.trials("RUNNING") == []
    finishes(place, run_id)


def test_a_killed_supervisor_gives_its_slot_back_within_two_minutes(place: Workplace, run_id: str) -> None:
    import psutil

    supervisor = psutil.Process(place.task(run_id)["pid"]).ppid()
    started = time.monotonic()
    os.kill(supervisor, signal.SIGKILL)
    place.gate.touch()
    place.site.must_succeed(place.dag, run_id)
    assert time.monotonic() - started < 150
    finishes(place, run_id)
