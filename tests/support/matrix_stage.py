"""Where a story of the matrix plays: a study's DAG on a real Airflow, and what is seen there after each step."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.storages import RDBStorage

from optuna_spark.storage.trial_marks import run_id_of
from tests.support.site import Site

TASKS = ("provision_database", "prepare_study", "tune", "export_best_trials")
ENDED = ("success", "failed")
LETTERS = "ABCDEFGHIJ"

Condition = Callable[[], bool]


@dataclass(frozen=True)
class Held:
    """What stands where after a step. A2 B2 are two complete trials of run A and then two of run B.

    Attributes:
        runs: How each run ended.
        study: Trials of the study.
        exports: Trials in the export of each run that has one.
        latest: The run whose export `latest` leads to.
        events: The runs whose asset events there are, in their order.
        replaced: Trials of each study that a reset has replaced and that is kept.
    """

    runs: str
    study: str
    exports: str = ""
    latest: str = ""
    events: str = ""
    replaced: str = ""


@dataclass
class Stage:
    """A study, its DAG and its runs.

    Attributes:
        site: The Airflow.
        name: Of the study; its DAG is tune_<name>.
        folder: Of the study file.
        storage: Of all studies.
        runs: Of the DAG, as Airflow listed them last.
        expected: How many there are to be.
        noted: Texts that a step heard, for its cell.
    """

    site: Site
    name: str
    folder: Path
    storage: RDBStorage
    runs: list[dict[str, Any]] = field(default_factory=list)
    expected: int = 0
    noted: str = ""
    _labels: dict[str, str] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)

    @property
    def dag(self) -> str:
        return f"tune_{self.name}"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    def api(self, method: str, path: str, body: Any = None) -> Any:
        return self.site.api(method, path, body)

    def run_path(self, label: str) -> str:
        return f"/dags/{self.dag}/dagRuns/{quote(self.run_id(label))}"

    def run_id(self, label: str) -> str:
        """A run that is triggered under a name has its label for one."""
        return next((run for run, known in self._labels.items() if known == label), label)

    def takes_in(self, label: str) -> None:
        """Name a run of another DAG that has worked on this study."""
        self._labels[label] = label

    def all_ended(self) -> bool:
        return len(self.runs) == self.expected and all(run["state"] in ENDED for run in self.runs)

    # --- what a gated objective does (see GATED) ---

    @property
    def waiting_at_gate(self) -> Path:
        """Is there while a trial waits; holds the number of its process."""
        return self.folder / f"{self.name}.waiting"

    def set_gate(self, *, is_open: bool) -> None:
        gate = self.folder / f"{self.name}.open"
        gate.touch() if is_open else gate.unlink(missing_ok=True)
        self.waiting_at_gate.unlink(missing_ok=True)

    # --- what is there ---

    def observe(self) -> Held:
        """What stands where now; runs that nobody has named get the next letters, in the order of their ends."""
        for run in sorted(self.runs, key=lambda run: str(run["end_date"])):
            if run["dag_run_id"] not in self._labels:
                free = (letter for letter in LETTERS if letter not in self._labels.values())
                self._labels[run["dag_run_id"]] = run["dag_run_id"] if run["dag_run_id"] in LETTERS else next(free)
        return Held(
            runs=", ".join(sorted(f"{self._labels[run['dag_run_id']]} {self._ended(run)}" for run in self.runs)),
            study=self._study(self.name),
            replaced="; ".join(map(self._study, self._replaced())),
            exports=", ".join(sorted(f"{label}: {trials}" for label, trials in self._exports().items())),
            latest=self._latest(),
            events=" ".join(self._events()),
        )

    def log(self, label: str, task: str) -> str:
        """The log of a task's last try."""
        if task == "":
            return self.noted
        path = f"{self.run_path(label)}/taskInstances/{task}"
        tries = self.api("GET", path)["try_number"]
        lines = self.api("GET", f"{path}/logs/{max(1, tries)}")["content"]
        return "\n".join(f"{line.get('event')} {line.get('error_detail') or ''}" for line in lines)

    def _ended(self, run: Mapping[str, Any]) -> str:
        if run["state"] == "success":
            return "ok"
        found = self.api("GET", f"/dags/{self.dag}/dagRuns/{quote(run['dag_run_id'])}/taskInstances")["task_instances"]
        failed = {task["task_id"] for task in found if task["state"] == "failed"}
        return " ".join(["failed in", *(task for task in TASKS if task in failed)])

    def _replaced(self) -> list[str]:
        names = optuna.get_all_study_names(self.storage)
        return sorted(name for name in names if name.startswith(f"{self.name}.replaced-"))

    def _study(self, name: str) -> str:
        if name not in optuna.get_all_study_names(self.storage):
            return ""
        trials = optuna.load_study(study_name=name, storage=self.storage).get_trials(deepcopy=False)
        return self._counted((str(run_id_of(trial)), trial.state.name) for trial in trials)

    def _counted(self, trials: Iterator[tuple[str, str]]) -> str:
        counts = Counter((self._label(key), state) for key, state in trials)
        words = [f"{label}{n}" + ("" if state == "COMPLETE" else f" {state}") for (label, state), n in counts.items()]
        return " ".join(words)

    def _label(self, key: str) -> str:
        """The run that trials are marked with; with a stroke for the second of the same id, and so on."""
        if key not in self._keys:
            run_id = key.rpartition(".")[0]
            first = self._labels.get(run_id, run_id if run_id in LETTERS else key)  # it may have been deleted
            known = list(self._keys.values())
            self._keys[key] = next(name for n in range(9) if (name := first + "'" * n) not in known)
        return self._keys[key]

    def _exports(self) -> dict[str, str]:
        found = {}
        for folder in self._export_folders():
            best = json.loads((folder / "best_params.json").read_text())
            with (folder / "trials.csv").open(newline="") as file:
                rows = [(row["user_attrs_run_id"], row["state"]) for row in csv.DictReader(file)]
            assert best["n_trials"] == len(rows), folder
            found[self._labels[best["run_id"]]] = self._counted(iter(rows))
        return found

    def _export_folders(self) -> list[Path]:
        base = self.site.layout.exports / self.name
        return [folder for folder in base.glob("[!.]*") if not folder.is_symlink()]

    def _latest(self) -> str:
        file = self.site.layout.exports / self.name / "latest" / "best_params.json"
        return self._labels[json.loads(file.read_text())["run_id"]] if file.exists() else ""

    def _events(self) -> list[str]:
        found = self.api("GET", f"/assets/events?source_dag_id={self.dag}&limit=100")["asset_events"]
        for event in found:
            assert event["name"] == f"best_params_{self.name}", event
            assert event["extra"]["study"] == self.name, event
        return [self._labels[event["source_run_id"]] for event in sorted(found, key=lambda event: int(event["id"]))]


class TakesTooLongError(AssertionError):
    """A story stood still."""


@dataclass
class Play:
    """A story as it plays: each of its steps may wait for what Airflow does, while other stories go on."""

    stage: Stage
    steps: Iterator[Condition]
    condition: Condition = bool
    since: float = field(default_factory=time.monotonic)

    def go_on(self, limit_s: float) -> bool:
        """Take the next step if it can be taken. Returns whether the story goes on."""
        if self.condition is not bool and not self.condition():
            if time.monotonic() - self.since > limit_s:
                states = [(run["dag_run_id"], run["state"]) for run in self.stage.runs]
                raise TakesTooLongError(f"{self.stage.name} has stood still for {limit_s:g} s: {states}")
            return True
        found = next(self.steps, None)
        self.since = time.monotonic()
        if found is not None:
            self.condition = found
        return found is not None
