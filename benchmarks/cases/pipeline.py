"""Case e: how long each stage of `make run` takes, on a machine where everything is installed and running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.cases.bench import Bench, CaseResult, Contender, run_all
from benchmarks.machine import ContenderError
from benchmarks.results import Samples, Table, number
from init.local import stack
from init.local.console import say
from init.local.layout import REPOSITORY, Layout
from init.local.processes import Service

STUDY, TRIALS = "diabetes", 10
LIMIT_S = 600.0
WHOLE = "whole"
# The line that `make run` prints when a stage begins, and the stage's name. A stage lasts until the next one begins.
MARKS: tuple[tuple[str, str], ...] = (
    (r"== starting Airflow", "airflow starts"),
    (r"== provision database", "provision_database"),
    (r"== prepare study", "prepare_study"),
    (r"== tune", "tune: spark-submit starts"),
    (r"Connecting to Spark", "tune: Spark session"),
    (r"Starting \d+ workers", "tune: workers and trials"),
    (r"Best value", "tune: Spark stops"),
    (r"== export best trials", "export_best_trials"),
    (r"== done", "airflow ends"),
)


@dataclass
class Stages:
    """Measures how long each stage takes, from the moments at which the lines arrive."""

    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stage, self._since = "check what is installed and running", self.clock()

    def feed(self, line: str) -> None:
        for pattern, stage in MARKS:
            if re.search(pattern, line):
                self.end()
                self._stage = stage

    def end(self) -> None:
        now = self.clock()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._since = now


def run(bench: Bench) -> CaseResult:
    """Run `make run` with few trials. The first run does not count, because it may install and start things."""
    say(f"e: make run STUDY={STUDY} TRIALS={TRIALS}")
    layout, samples = Layout(REPOSITORY), Samples("e")
    # Services of the person who runs the benchmark stay; those that it starts itself are stopped.
    ran_before = any(Service(name, layout.state).running() for name in ("mysql", "spark-master"))
    try:
        _make_run()
        run_all(bench, samples, [Contender("make run", _make_run)], LIMIT_S)
    finally:
        if not ran_before:
            stack.stop_services(layout)
    return CaseResult(samples.measurements(), [table(samples)])


def _make_run() -> dict[str, float]:
    command = [sys.executable, "-m", "init.local", "run", "--study", STUDY, "--trials", str(TRIALS)]
    # As a person's shell: without the variables that only the benchmark itself needs.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TUNING_SPARK_ENV")}
    started, stages = time.monotonic(), Stages()
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        stages.feed(line)
    stages.end()
    if process.wait() != 0:
        raise ContenderError("make run failed:\n" + "".join(lines[-15:]))
    return {**stages.seconds, WHOLE: time.monotonic() - started}


def table(samples: Samples) -> Table:
    whole = samples.median("make run", WHOLE)
    rows = []
    for stage in [m.metric for m in samples.measurements() if m.contender == "make run" and m.metric != "runs"]:
        value = samples.median("make run", stage)
        rows.append((stage, number(value), number(value and whole and 100 * value / whole, 0, " %")))
    return Table(f"e: make run again, {TRIALS} trials", ("stage", "seconds", "share"), rows)
