"""Case c: how much faster 8 workers are than one, with the trials of the smallest case that the reference published."""

from __future__ import annotations

import math
from functools import partial

from benchmarks.cases.bench import Bench, CaseResult, Contender, run_all
from benchmarks.cases.specs import engine_spec
from benchmarks.machine import Cluster, Machine, Outcome
from benchmarks.results import Samples, Table, costless_verdict, number, verdict
from benchmarks.workload import PUBLISHED_S
from init.local.console import say

# 100 trials do not divide evenly by 8: some worker runs 13, so no engine can be more than 100 / 13 = 7.69 times faster.
WORKERS = 8
TRIALS = 100
LIMIT_S = 180.0
OURS = "ours, rdd"
# The time of 100 trials one after the other, with nothing in between. No single worker can be faster.
ONE_WORKER_S = TRIALS * PUBLISHED_S
COSTLESS_S = math.ceil(TRIALS / WORKERS) * PUBLISHED_S


def run(bench: Bench) -> CaseResult:
    """Run 100 trials of 3.76 s on 8 workers."""
    say(f"c: {TRIALS} trials of {PUBLISHED_S} s on {WORKERS} workers")
    samples = Samples("c")
    with bench.cluster(WORKERS) as cluster:
        rows = [
            Contender(OURS, partial(_ours, bench.machine, cluster)),
            Contender("reference, joblib", partial(_reference, bench.machine, cluster)),
        ]
        run_all(bench, samples, rows, LIMIT_S)
    return CaseResult(samples.measurements(), [table(samples)])


def _ours(machine: Machine, cluster: Cluster) -> dict[str, float] | None:
    url = machine.new_database()
    spec = engine_spec("published_trial", trials=TRIALS, tasks=WORKERS, jobs=WORKERS, distribution="rdd")
    return _metrics(cluster.run("ours", [spec.to_json()], slots=WORKERS, url=url, timeout_s=LIMIT_S))


def _reference(machine: Machine, cluster: Cluster) -> dict[str, float] | None:
    url = machine.new_database()
    arguments = ["--distribution", "joblib", "--objective", "published_trial"]
    arguments += ["--trials", str(TRIALS), "--tasks", str(WORKERS)]
    return _metrics(cluster.run("reference", arguments, slots=WORKERS, url=url, timeout_s=LIMIT_S))


def _metrics(outcome: Outcome) -> dict[str, float] | None:
    if outcome.timed_out:
        return None
    window, whole = outcome.window_s, outcome.measured["seconds"]
    return {
        "speedup": ONE_WORKER_S / window,
        "speedup_with_start": ONE_WORKER_S / whole,
        "of_costless": COSTLESS_S / whole,
        "window_s": window,
        "seconds": whole,
    }


def table(samples: Samples) -> Table:
    names = dict.fromkeys(m.contender for m in samples.measurements())
    metrics = (("speedup", 2), ("speedup_with_start", 2), ("of_costless", 2), ("window_s", 1), ("seconds", 1))
    rows = [(name, *(number(samples.median(name, m), digits) for m, digits in metrics)) for name in names]
    columns = ("contender", "speed-up", "with start-up", "of costless", "first to last trial s", "seconds")
    best = samples.median(OURS, "speedup")
    return Table(
        f"c: {TRIALS} trials of {PUBLISHED_S} s on {WORKERS} workers (13 of them one after the other: at most 7.69)",
        columns,
        rows,
        [verdict(f"{OURS}, speed-up from 8 workers", best, 7.6, at_most=False), costless_verdict(samples, OURS)],
    )
