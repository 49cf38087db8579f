"""What operators do to a study's runs: each of these is one step of a story of the matrix (tests/support/matrix.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from init.local.airflow import program
from tests.support.matrix_stage import ENDED, Condition, Stage
from tuning_pipeline.database.lease_table import LEASES
from tuning_pipeline.runs.study_lease import DEAD_S

# The DAG that starts others, in the site's folder.
STARTER = """
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

with DAG("starter", schedule=None, params={"dag_id": "", "run_id": "", "conf": {}}, render_template_as_native_obj=True):
    TriggerDagRunOperator(
        task_id="start",
        trigger_dag_id="{{ params.dag_id }}",
        trigger_run_id="{{ params.run_id }}",
        conf="{{ params.conf }}",
    )
"""
# Each trial waits until somebody opens the gate, and says that it waits.
GATED = """
import os, pathlib, time

HERE = pathlib.Path(__file__)

def gated(trial):
    x = trial.suggest_float("x", -10, 10)
    while not HERE.with_suffix(".open").exists():
        HERE.with_suffix(".waiting").write_text(str(os.getpid()))
        time.sleep(0.1)
    return x * x
"""


class Action(Protocol):
    """A step: does something, and yields what is to be waited for before it goes on."""

    @property
    def words(self) -> str: ...

    def __call__(self, stage: Stage) -> Iterator[Condition]: ...


def shown(conf: dict[str, Any]) -> str:
    if not conf:
        return "conf says no mode"
    return ", ".join(
        f"{name} {value}" if isinstance(value, str) else f"conf names {name}" for name, value in conf.items()
    )


@dataclass(frozen=True)
class Rest:
    """A run by POST /dags/{id}/dagRuns, as the form does it."""

    label: str
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        return f"run {self.label} by REST: {shown(self.conf)}"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        trigger(stage, self.label, self.conf)
        yield stage.all_ended


def trigger(stage: Stage, label: str, conf: dict[str, Any]) -> None:
    stage.expected += 1
    body = {"dag_run_id": label, "logical_date": None, "conf": conf}
    stage.api("POST", f"/dags/{stage.dag}/dagRuns", body)


@dataclass(frozen=True)
class CommandLine:
    """A run by `airflow dags trigger`."""

    label: str
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        return f"run {self.label} by `airflow dags trigger`: {shown(self.conf)}"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        stage.expected += 1
        layout = stage.site.layout
        command = [str(program(layout)), "dags", "trigger", stage.dag, "--run-id", self.label]
        log = layout.logs / f"trigger-{stage.name}.log"
        with log.open("w") as output:
            env = dict(stage.site.services.env)
            process = subprocess.Popen(
                [*command, "--conf", json.dumps(self.conf)], env=env, stdout=output, stderr=output
            )
        yield lambda: process.poll() is not None
        assert process.returncode == 0, log.read_text()
        yield stage.all_ended


@dataclass(frozen=True)
class Operator:
    """A run by another DAG's TriggerDagRunOperator."""

    label: str
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        return f"run {self.label} by another DAG: {shown(self.conf)}"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        stage.expected += 1
        conf = {"dag_id": stage.dag, "run_id": self.label, "conf": self.conf}
        stage.api("POST", "/dags/starter/dagRuns", {"logical_date": None, "conf": conf})
        yield stage.all_ended


@dataclass(frozen=True)
class Materialize:
    """A run by the page of the study's asset."""

    label: str
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        return f"run {self.label} by the asset's page: {shown(self.conf)}"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        stage.expected += 1
        body = {"dag_run_id": self.label, "conf": self.conf}
        stage.api("POST", f"/assets/{asset_id(stage, f'best_params_{stage.name}')}/materialize", body)
        yield stage.all_ended


@dataclass(frozen=True)
class Update:
    """A run by the update of an asset that `retune.assets` names."""

    label: str

    @property
    def words(self) -> str:
        return f"run {self.label} by an asset's update"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        stage.expected += 1
        stage.api("POST", "/assets/events", {"asset_id": asset_id(stage, f"source_{stage.name}")})
        yield stage.all_ended


def asset_id(stage: Stage, name: str) -> int:
    found = stage.api("GET", f"/assets?name_pattern={name}&limit=100")["assets"]
    return next(int(asset["id"]) for asset in found if asset["name"] == name)


@dataclass(frozen=True)
class Scheduled:
    """The run of the schedule's latest date, which comes when the DAG is unpaused."""

    label: str

    @property
    def words(self) -> str:
        return f"run {self.label} by the schedule"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        stage.expected += 1
        yield stage.all_ended


@dataclass(frozen=True)
class Backfill:
    """Runs of past dates, all at once."""

    labels: str
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        conf = f": {shown(self.conf)}" if self.conf else ""
        return f"run{'s' * (len(self.labels) > 1)} {' '.join(self.labels)} by a backfill{conf}"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        stage.expected += len(self.labels)
        dates = {"from_date": "2021-01-01T00:00:00Z", "to_date": f"{2020 + len(self.labels)}-01-01T00:00:00Z"}
        stage.api("POST", "/backfills", {"dag_id": stage.dag, "dag_run_conf": self.conf or None, **dates})
        yield stage.all_ended


@dataclass(frozen=True)
class Clear:
    """A task of a run alone, or all of them."""

    label: str
    task: str = ""

    @property
    def words(self) -> str:
        return f"{self.task or 'every task'} of run {self.label} cleared"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        clear(stage, self.label, self.task)
        yield stage.all_ended


def clear(stage: Stage, label: str, task: str) -> None:
    tasks = {"task_ids": [task]} if task else {}
    body = {"dry_run": False, "only_failed": False, "dag_run_id": stage.run_id(label), **tasks}
    stage.api("POST", f"/dags/{stage.dag}/clearTaskInstances", body)


@dataclass(frozen=True)
class Again:
    """A run deleted, and another one triggered under its id."""

    label: str
    conf: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        return f"run {self.label} deleted and triggered again under its id: {shown(self.conf)}"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        stage.api("DELETE", stage.run_path(self.label))
        stage.expected -= 1
        trigger(stage, self.label, self.conf)
        yield stage.all_ended


@dataclass(frozen=True)
class Renamed:
    """The study file gets another `study:` while the run tunes."""

    label: str

    @property
    def words(self) -> str:
        return f"`study:` renamed in the file while run {self.label} tunes"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        yield from at_gate(stage, self.label)
        stage.file.write_text(f"{stage.file.read_text()}study: {stage.name}-renamed\n")
        stage.set_gate(is_open=True)
        yield stage.all_ended


def at_gate(stage: Stage, label: str) -> Iterator[Condition]:
    """Start a run, and wait until it tunes."""
    stage.set_gate(is_open=False)
    trigger(stage, label, {"mode": "resume"})
    yield lambda: holds_a_number(stage.waiting_at_gate) or stage.all_ended()
    assert stage.waiting_at_gate.exists(), stage.log(label, "tune")


def holds_a_number(file: Path) -> bool:
    return file.exists() and file.read_text().isdigit()


@dataclass(frozen=True)
class Beside:
    """`airflow dags test` while a run tunes."""

    live: str
    beside: str

    @property
    def words(self) -> str:
        return f"run {self.beside} by `airflow dags test` while run {self.live} tunes"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        yield from at_gate(stage, self.live)
        stage.expected += 1
        layout = stage.site.layout
        log = layout.logs / f"beside-{stage.name}.log"
        command = [str(program(layout)), "dags", "test", stage.dag, "--conf", json.dumps({"mode": "resume"})]
        with log.open("w") as output:
            env = dict(stage.site.services.env)
            process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        yield lambda: "Waiting for study" in log.read_text() or process.poll() is not None
        stage.set_gate(is_open=True)
        yield lambda: stage.all_ended() and process.poll() is not None
        stage.noted = log.read_text()


@dataclass(frozen=True)
class Twin:
    """A run of another DAG whose file names the same study (see TWIN in tests/support/matrix.py), while a run tunes."""

    live: str
    beside: str

    @property
    def words(self) -> str:
        return f"run {self.beside} of another DAG with the same `study:` and mode reset while run {self.live} tunes"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        yield from at_gate(stage, self.live)
        site, twin = stage.site, f"{stage.dag}_twin"
        stage.api("PATCH", f"/dags/{twin}", {"is_paused": False})
        stage.api("POST", f"/dags/{twin}/dagRuns", {"dag_run_id": self.beside, "logical_date": None, "conf": {}})
        path = f"/dags/{twin}/dagRuns/{self.beside}"
        waits = ("up_for_reschedule", "failed")
        yield lambda: any(s in waits for s in site.states(twin, self.beside).values()) or has_ended(stage, path)
        stage.noted = "\n".join(site.log(twin, self.beside, "provision_database"))
        stage.set_gate(is_open=True)
        yield lambda: stage.all_ended() and has_ended(stage, path)
        assert stage.api("GET", path)["state"] == "success", site.states(twin, self.beside)
        stage.takes_in(self.beside)


def has_ended(stage: Stage, path: str) -> bool:
    return stage.api("GET", path)["state"] in ENDED


@dataclass(frozen=True)
class WhileItTunes:
    """Something done to a run, or to its task `tune`, that ends the task."""

    label: str
    what: str

    @property
    def words(self) -> str:
        return WHAT[self.what].format(self.label)

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        yield from at_gate(stage, self.label)
        worker = Path("/proc", stage.waiting_at_gate.read_text())
        run, new = stage.run_path(self.label), self.what.rpartition(" ")[2]
        if self.what == "run deleted":
            stage.expected -= 1
            stage.api("PATCH", run, {"state": "failed"})  # Airflow deletes no running one
            stage.api("DELETE", run)
        elif self.what == "tune cleared":
            clear(stage, self.label, "tune")
        elif self.what.startswith("tune"):
            stage.api("PATCH", f"{run}/taskInstances/tune", {"new_state": new})
        else:
            stage.api("PATCH", run, {"state": new})
        yield lambda: not worker.exists()
        stage.set_gate(is_open=True)
        yield stage.all_ended


WHAT = {
    "tune failed": "tune of run {} marked failed while it runs",
    "tune success": "tune of run {} marked success while it runs",
    "tune cleared": "tune of run {} cleared while it runs",
    "run failed": "run {} marked failed while it tunes",
    "run success": "run {} marked success while it tunes",
    "run deleted": "run {} marked failed and deleted while it tunes",
}


@dataclass(frozen=True)
class Killed:
    """The process of the task is killed while the run tunes: it gives nothing back."""

    label: str

    @property
    def words(self) -> str:
        return f"task process of run {self.label} killed while it tunes"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        yield from at_gate(stage, self.label)
        worker = int(stage.waiting_at_gate.read_text())
        os.kill(parent(driver_of(worker)), signal.SIGKILL)
        yield lambda: stage.all_ended() and not Path(f"/proc/{worker}").exists()
        stage.set_gate(is_open=True)


def driver_of(pid: int) -> int:
    """The process of jobs/tune.py that a worker belongs to."""
    while b"tune.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = parent(pid)
    return pid


def parent(pid: int) -> int:
    """proc(5), /proc/pid/stat, fourth field."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@dataclass(frozen=True)
class AfterKilled:
    """A run that waits for the lease of a killed one, which is then made as old as it takes."""

    label: str
    killed: str

    @property
    def words(self) -> str:
        return f"run {self.label} by REST: mode resume; it waits until run {self.killed} was silent for {DEAD_S} s"

    def __call__(self, stage: Stage) -> Iterator[Condition]:
        set_lease_age(stage, -600)  # however slow this machine is, the lease counts until the run has met it
        trigger(stage, self.label, {"mode": "resume"})
        yield lambda: is_waiting(stage)
        stage.noted = stage.log(self.label, "provision_database")
        set_lease_age(stage, DEAD_S + 1)
        yield stage.all_ended


def set_lease_age(stage: Stage, idle_s: int) -> None:
    aged = sa.update(LEASES).where(LEASES.c.study == stage.name, LEASES.c.busy)
    with stage.storage.engine.begin() as connection:
        changed = connection.execute(aged.values(renewed_s=sa.func.unix_timestamp() - idle_s))
    assert changed.rowcount == 1


def is_waiting(stage: Stage) -> bool:
    states = [stage.site.states(stage.dag, run["dag_run_id"]) for run in stage.runs if run["state"] == "running"]
    return any("up_for_reschedule" in found.values() for found in states)
