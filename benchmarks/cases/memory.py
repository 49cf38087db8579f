"""Case f: how much memory a worker needs for a table of about 200 MB."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cases.bench import Bench, CaseResult, Contender, run_all
from benchmarks.cases.specs import SAMPLER
from benchmarks.machine import Cluster, Machine
from benchmarks.results import Samples, Table, number
from init.local.console import say
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

# Large enough that the table, and not Python with its libraries, makes most of a worker's memory.
ROWS, FEATURES = 400_000, 125
TABLE_MB = ROWS * FEATURES * 4 / 1e6
WORKERS = (1, 2, 4)
LIMIT_S = 240.0
EVERY_S = 0.2


def run(bench: Bench) -> CaseResult:
    """Run 1 to 4 workers on one node, each of which trains a few rounds."""
    say(f"f: a table of {TABLE_MB:.0f} MB, {WORKERS} workers")
    samples, file = Samples("f"), bench.machine.folder / "table.parquet"
    write_table(file)
    with bench.cluster(max(WORKERS)) as cluster:
        rows = [
            Contender(
                f"{distribution}, {workers}", partial(_run, bench.machine, cluster, file, distribution, workers), 1
            )
            for distribution in ("rdd", "dataframe")
            for workers in WORKERS
        ]
        run_all(bench, samples, rows, LIMIT_S)
    return CaseResult(samples.measurements(), [table(samples)])


def write_table(file: Path) -> None:
    """Write a table of random float32 columns, and a label that depends on some of them."""
    generator = np.random.default_rng(7)
    features = generator.standard_normal((ROWS, FEATURES), dtype=np.float32)
    label = features[:, :5].sum(axis=1) + generator.standard_normal(ROWS, dtype=np.float32)
    columns = {f"f{i}": features[:, i] for i in range(FEATURES)}
    pq.write_table(pa.table({**columns, "label": label}), file)


def _run(machine: Machine, cluster: Cluster, file: Path, distribution: str, workers: int) -> dict[str, float] | None:
    spec = TuningSpec(
        study_name="bench",
        objective="xgboost",
        search_space={"max_depth": ParamSpec("int", 3, 5)},
        data=DataSpec(str(file), label="label"),
        objective_section={"num_boost_round": 3},  # the peak is reached when the table is read and trained on first
        sampler=SAMPLER,
        trials=3 * workers,
        tasks=workers,
        distribution="rdd" if distribution == "rdd" else "dataframe",
        run_id="bench",
    )
    url = machine.new_database()
    with Watch(cluster.folder) as watch:
        outcome = cluster.run(
            "ours", [spec.to_json()], slots=workers, url=url, timeout_s=LIMIT_S, conf={"spark.executor.memory": "2g"}
        )
    if outcome.timed_out:
        return None
    worker_mb = watch.workers_mb / workers
    return {
        "worker_peak_mb": worker_mb,
        "executor_jvm_peak_mb": watch.jvm_mb,
        "of_table": worker_mb / TABLE_MB,
        "seconds": outcome.measured["seconds"],
    }


class Watch:
    """Measures the peak memory of the executor's Java, and that of all its Python workers together.

    It reads the proportional set size, so memory that forked workers share counts once.

    Args:
        folder: The state folder of the cluster. Executors have their working folder below it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self.workers_mb = self.jvm_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            parents = {pid: parent(pid) for pid in map(int, (f.name for f in Path("/proc").glob("[0-9]*")))}
            executors = {pid for pid in parents if self._is_executor(pid)}
            # Executor, then its Python daemon, then the workers that the daemon has forked.
            daemons = {pid for pid, above in parents.items() if above in executors}
            workers = {pid for pid, above in parents.items() if above in daemons}
            self.jvm_mb = max(self.jvm_mb, sum(map(pss_mb, executors)))
            self.workers_mb = max(self.workers_mb, sum(map(pss_mb, workers)))

    def _is_executor(self, pid: int) -> bool:
        with suppress(OSError):
            is_executor = b"CoarseGrainedExecutorBackend" in Path(f"/proc/{pid}/cmdline").read_bytes()
            return is_executor and str(Path(f"/proc/{pid}/cwd").readlink()).startswith(self._folder)
        return False


def parent(pid: int) -> int:
    with suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def pss_mb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1000
    return 0.0


def table(samples: Samples) -> Table:
    names = dict.fromkeys(m.contender for m in samples.measurements())
    metrics = (("worker_peak_mb", 0), ("of_table", 2), ("executor_jvm_peak_mb", 0), ("seconds", 1))
    rows = [(name, *(number(samples.median(name, m), digits) for m, digits in metrics)) for name in names]
    columns = ("distribution, workers", "MB a worker", "of table", "executor JVM MB", "seconds")
    return Table(f"f: peak memory with a table of {TABLE_MB:.0f} MB", columns, rows)
