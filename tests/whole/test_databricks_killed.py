"""Airflow's real processes are killed while a run is on: one run, every trial once, nothing left in the workspace."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import optuna
import pytest

from init.local import passwords
from init.local.processes import Service
from tests.support.databricks import VOLUME, Run, Workspace, databricks_workspace
from tests.support.databricks_fixtures import DATABRICKS, connection_fields
from tests.support.servers import scratch_folder, spark_environment
from tests.support.site import Site, checkout, end_services, serve
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

# Enough that a run is on while Airflow notices; LONG where only a cancelled run ends in time.
TRIALS, LONG = 16, "trials: 300\n"
SLOW = "import time\n\n\ndef slow(trial):\n    time.sleep(1.2)\n    return trial.suggest_float('x', 0, 1)\n"
BASE = f"""objective: steady:slow
target: databricks
retry_delay_s: 0
tasks: 2
seed: 1
distribution: rdd
databricks:
  files: {VOLUME}
  poll_s: 1
  dump_every_s: 1
  cluster: {{node_type: n, workers: 2}}
"""
DEFERRED = f"{BASE}  deferrable: true\n"
STUDIES = {
    "retried": f"{BASE}retries: 1\ntrials: {TRIALS}\n",
    "last_try": f"{BASE}retries: 0\n{LONG}",
    "marked": f"{BASE}retries: 0\n{LONG}",
    "cleared": f"{BASE}retries: 0\ntrials: {2 * TRIALS}\n",
    "deferred_marked": f"{DEFERRED}retries: 0\n{LONG}",
    "triggerer": f"{DEFERRED}retries: 0\ntrials: {TRIALS}\n",
    "too_long": f"{DEFERRED}retries: 0\nexecution_timeout_s: 25\n{LONG}",
}


@pytest.fixture(scope="module")
def workspace() -> Iterator[Workspace]:
    with databricks_workspace() as service:
        yield service
    assert not service.problems


@pytest.fixture(scope="module")
def site(workspace: Workspace) -> Iterator[Site]:
    """Scheduler, triggerer, DAG processor and API server, with the stand-in as their workspace."""
    if not spark_environment().exists():
        pytest.skip("needs the Spark environment: run `make setup`")
    with scratch_folder() as folder:
        layout = checkout(folder, STUDIES)
        (layout.root / "dags" / "studies" / "steady.py").write_text(SLOW)
        secrets = passwords.load_or_create(layout.state / "secrets.env")
        given = {
            f"AIRFLOW_CONN_{DATABRICKS.upper()}": json.dumps(connection_fields(workspace)),
            passwords.FERNET: secrets[passwords.FERNET],
            "NO_PROXY": "127.0.0.1",
        }
        try:
            found = serve(layout, given)
            found.wait_for_dags(len(STUDIES))
            yield found
        finally:
            end_services(layout)


def runs_of(workspace: Workspace, study: str) -> list[Run]:
    return [run for run in workspace.runs.values() if run.payload["run_name"].startswith(f"tune {study} (")]


def start(site: Site, workspace: Workspace, study: str) -> tuple[str, Run]:
    """Trigger a study, and come back when Spark has carried out some of its trials."""
    run_id = site.trigger(f"tune_{study}", {})
    (run,) = wait_until(lambda: runs_of(workspace, study), "a run")
    wait_until(lambda: re.search(r"\[tuning\] ([2-9]|\d\d)/\d+ trials", run.output) or run.ended, "two trials")
    assert not run.ended, run.output
    return run_id, run


def tune(site: Site, study: str, run_id: str) -> dict[str, Any]:
    path = f"/dags/tune_{study}/dagRuns/{quote(run_id)}/taskInstances/tune"
    return dict(site.api("GET", path))


def mark_failed(site: Site, study: str, run_id: str) -> None:
    path = f"/dags/tune_{study}/dagRuns/{quote(run_id)}/taskInstances/tune"
    site.api("PATCH", path, {"new_state": "failed"})


def complete(workspace: Workspace, study: str) -> int:
    file = workspace.path(f"{VOLUME}/studies/{study}/study.db")
    stored = optuna.load_study(study_name=study, storage=f"sqlite:///{file}")
    assert not [trial for trial in stored.trials if trial.state.name == "RUNNING"]
    return sum(trial.state.name == "COMPLETE" for trial in stored.trials)


def assert_cancelled(run: Run) -> None:
    wait_until(lambda: run.ended, "the run to end")
    assert (run.result, run.code) == ("CANCELED", "USER_CANCELED")
    wait_until(lambda: not run.processes, "its processes to end")


def test_a_killed_task_goes_on_with_its_run(site: Site, workspace: Workspace) -> None:
    run_id, run = start(site, workspace, "retried")
    os.kill(tune(site, "retried", run_id)["pid"], signal.SIGKILL)
    site.must_succeed("tune_retried", run_id)
    assert tune(site, "retried", run_id)["try_number"] == 2
    assert runs_of(workspace, "retried") == [run]
    assert (run.result, complete(workspace, "retried")) == ("SUCCESS", TRIALS)


def test_a_last_try_that_is_killed_leaves_no_run_behind(site: Site, workspace: Workspace) -> None:
    run_id, run = start(site, workspace, "last_try")
    os.kill(tune(site, "last_try", run_id)["pid"], signal.SIGKILL)
    assert site.wait_for_run("tune_last_try", run_id) == "failed"
    assert_cancelled(run)
    states = site.states("tune_last_try", run_id)
    assert (states["tune"], states["end_run"]) == ("failed", "success")


def test_a_task_that_a_user_marks_as_failed_cancels_its_run(site: Site, workspace: Workspace) -> None:
    run_id, run = start(site, workspace, "marked")
    mark_failed(site, "marked", run_id)
    assert_cancelled(run)
    assert site.wait_for_run("tune_marked", run_id) == "failed"


def test_a_task_that_a_user_clears_starts_anew_where_its_run_was(site: Site, workspace: Workspace) -> None:
    run_id, run = start(site, workspace, "cleared")
    site.api(
        "POST",
        "/dags/tune_cleared/clearTaskInstances",
        {"dag_run_id": run_id, "task_ids": ["tune"], "dry_run": False, "only_failed": False, "only_running": False},
    )
    assert_cancelled(run)
    wait_until(lambda: tune(site, "cleared", run_id)["try_number"] == 2, "the second try", every_s=0.5)
    site.must_succeed("tune_cleared", run_id)
    first, second = runs_of(workspace, "cleared")
    assert (first, second.result) == (run, "SUCCESS")
    assert "Restored the study" in second.output
    assert complete(workspace, "cleared") == 2 * TRIALS


def test_a_deferred_task_that_a_user_marks_as_failed_cancels_its_run(site: Site, workspace: Workspace) -> None:
    run_id, run = start(site, workspace, "deferred_marked")
    assert tune(site, "deferred_marked", run_id)["state"] == "deferred"
    mark_failed(site, "deferred_marked", run_id)
    assert_cancelled(run)


def test_a_killed_triggerer_finds_the_run_again(site: Site, workspace: Workspace) -> None:
    run_id, run = start(site, workspace, "triggerer")
    triggerer = Service("airflow-triggerer", site.layout.state)
    try:
        os.kill(triggerer.pid, signal.SIGKILL)
        wait_until(lambda: not triggerer.running(), "the triggerer's end")
    finally:
        site.services.ensure()  # the other tests need it
    site.must_succeed("tune_triggerer", run_id)
    assert runs_of(workspace, "triggerer") == [run]
    assert complete(workspace, "triggerer") == TRIALS


def test_a_deferred_task_that_takes_too_long_ends_its_run(site: Site, workspace: Workspace) -> None:
    run_id = site.trigger("tune_too_long", {})
    assert site.wait_for_run("tune_too_long", run_id) == "failed"
    (run,) = runs_of(workspace, "too_long")
    assert run.result in ("TIMEDOUT", "CANCELED")
    assert not run.processes
    path = f"/dags/tune_too_long/dagRuns/{quote(run_id)}/taskInstances/tune/logs/1"
    assert "longer than execution_timeout_s" in str(site.api("GET", path)["content"])
