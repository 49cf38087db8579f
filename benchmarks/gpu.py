"""Measures how many trials a GPU can run at once, and compares that with the CPU. `make bench-gpu` calls it.

It needs an NVIDIA GPU and requirements/spark-gpu.txt, but no Spark and no MySQL: the workers are plain processes
(distribution `local`), which share the GPU as Spark's tasks would.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy

from benchmarks.cases.studies import seconds_between, trials_of
from benchmarks.machine import Machine
from benchmarks.results import Measurement, Samples, Table, number, ratio, save
from init.local.console import complain, detail, say, show
from init.local.layout import REPOSITORY
from init.local.mysql import MysqlServer
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec, ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.servers import scratch_folder

# The table of the reference's benchmark: https://github.com/NVIDIA/spark-rapids-examples, examples/ML+DL-Examples.
ROWS, FEATURES = 2_000_000, 156
AT_ONCE = (1, 2, 4, 8)
CPU = "CPU, all cores, 1 at a time"
LIMIT_S = 900.0
SPACE = {
    "learning_rate": ParamSpec("float", 0.01, 0.3, log=True),
    "max_depth": ParamSpec("int", 4, 8),
    "subsample": ParamSpec("float", 0.5, 1.0),
}


def write_table(file: Path, rows: int) -> None:
    """Write a table of random float32 columns, and a label that depends on some of them."""
    generator = np.random.default_rng(7)
    columns = {f"f{i}": generator.standard_normal(rows, dtype=np.float32) for i in range(FEATURES)}
    label = sum(columns[f"f{i}"] for i in range(8)) + generator.standard_normal(rows, dtype=np.float32)
    pq.write_table(pa.table({**columns, "label": label}), file)


def spec(file: Path, trials: int, workers: int, rounds: int, *, gpu: bool) -> TuningSpec:
    """The spec of the study: on the CPU, or with `workers` trials at once on one GPU."""
    cores = max(1, len(os.sched_getaffinity(0)) // workers)
    return TuningSpec(
        study_name="bench",
        objective="xgboost",
        search_space=SPACE,
        data=DataSpec(str(file), label="label"),
        objective_section={"num_boost_round": rounds},
        seed=7,
        trials=trials,
        tasks=workers,
        distribution="local",
        resources=ResourceSpec(cpus_per_task=cores, gpus_per_task=1 / workers if gpu else 0.0),
        run_id="bench",
    )


def measure(machine: Machine, run: TuningSpec) -> dict[str, float] | None:
    """Run a study, and measure its trials per minute and the GPU's memory and load. None if it was stopped."""
    file = machine.folder / f"study-{time.monotonic_ns()}.sqlite3"
    url = sqlalchemy.URL.create("sqlite", database=str(file))
    with GpuWatch() as watch:
        outcome = machine.run("ours", [run.to_json()], url=url, timeout_s=LIMIT_S)
    if outcome.timed_out:
        return None
    trials = trials_of(url)
    devices = {str(trial.user_attrs["device"]) for trial in trials}
    expected = "cuda" if run.resources.gpus_per_task else "cpu"
    # A run that silently fell back to the CPU must not count as one of the GPU.
    if not all(device.startswith(expected) for device in devices):
        raise SystemExit(f"the trials ran on {devices}, not on {expected}")
    ended = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    seconds = seconds_between(min(trial.datetime_start for trial in trials if trial.datetime_start), max(ended))
    return {
        "trials_per_minute": 60 * len(trials) / seconds,
        "train_s": float(np.median([trial.user_attrs["train_s"] for trial in trials])),
        "gpu_memory_mib": watch.memory_mib,
        "gpu_busy_percent": watch.busy,
        "best_value": min(trial.value for trial in trials if trial.value is not None),
        "seconds": outcome.measured["seconds"],
    }


class GpuWatch:
    """Asks nvidia-smi once a second for the memory in use (of which it keeps the peak) and the load (the mean)."""

    def __init__(self) -> None:
        self.memory_mib = 0.0
        self._busy: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def busy(self) -> float:
        return float(np.mean(self._busy)) if self._busy else 0.0

    def __enter__(self) -> GpuWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            memory, busy = query("memory.used,utilization.gpu")[0]
            self.memory_mib = max(self.memory_mib, float(memory))
            self._busy.append(float(busy))


def query(what: str) -> list[list[str]]:
    """The values that nvidia-smi reports, for every GPU."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [[value.strip() for value in line.split(",")] for line in output.splitlines()]


def about() -> list[Measurement]:
    name, driver, memory = query("name,driver_version,memory.total")[0]
    facts: dict[str, Any] = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "gpu": name,
        "driver": driver,
        "gpu_memory_mib": float(memory),
        "cpus": len(os.sched_getaffinity(0)),
        "mps": "on" if os.environ.get("CUDA_MPS_PIPE_DIRECTORY") else "off",
    }
    return [Measurement("gpu", "machine", fact, value) for fact, value in facts.items()]


def run_all(options: argparse.Namespace, machine: Machine, samples: Samples) -> None:
    file = machine.folder / "table.parquet"
    say(f"gpu: writing a table of {options.rows} rows and {FEATURES} columns")
    write_table(file, options.rows)
    contenders = [(name_of(n), spec(file, options.trials, n, options.rounds, gpu=True)) for n in AT_ONCE]
    # Few trials are enough on the CPU: their times differ little, and each takes long.
    contenders.append((CPU, spec(file, max(1, options.trials // 8), 1, options.rounds, gpu=False)))
    for turn in range(options.runs):
        for name, run in contenders:
            measured = measure(machine, run) if turn == 0 or name != CPU else None
            if measured is not None:
                samples.add(name, measured)
                detail(f"gpu: {name}: {measured['trials_per_minute']:.1f} trials a minute")


def name_of(workers: int) -> str:
    return f"GPU, {workers} at a time"


def table(samples: Samples) -> Table:
    one = samples.median(name_of(1), "trials_per_minute")
    cpu = samples.median(CPU, "trials_per_minute")
    rows = []
    for name in [*map(name_of, AT_ONCE), CPU]:
        rate = samples.median(name, "trials_per_minute")
        others = (("train_s", 2), ("gpu_memory_mib", 0), ("gpu_busy_percent", 0))
        shown = [number(samples.median(name, metric), digits) for metric, digits in others]
        rows.append((name, number(rate, 2), ratio(rate, one), ratio(rate, cpu), *shown))
    columns = ("contender", "trials a minute", "of one at a time", "of the CPU", "train s", "GPU MiB", "GPU busy %")
    return Table("gpu: trials at once on one GPU", columns, rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--runs", type=int, default=1)
    results = REPOSITORY / "benchmarks" / "results" / "gpu.json"
    options = parser.parse_args(arguments)
    try:
        facts = about()
    except (OSError, subprocess.CalledProcessError):
        complain("no NVIDIA GPU answers here (nvidia-smi): nothing was measured")
        return 1
    logs = REPOSITORY / ".state" / "bench-gpu"
    logs.mkdir(parents=True, exist_ok=True)
    samples = Samples("gpu")
    with scratch_folder() as folder:
        # Machine wants a server, but it is never started: these studies are in SQLite files.
        run_all(options, Machine(folder, MysqlServer(folder, ""), logs), samples)
    save(results, facts + samples.measurements())
    show(table(samples).text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
