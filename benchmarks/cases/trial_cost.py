"""Case b: the cost of a trial whose objective takes no time."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import sqlalchemy

from benchmarks.cases.bench import Bench, CaseResult, Contender, run_all
from benchmarks.cases.specs import engine_spec
from benchmarks.machine import BENCH_ENV, Cluster, Machine, Outcome
from benchmarks.results import Samples, Table, divided, number, ratio, verdict
from init.local.console import say
from optuna_spark.spec.sections import ComponentSpec

SLOTS = 2  # few, so that the driver and not the number of cores is the limit
TRIALS = 1000
FURTHER = 200
HISTORIES = (1000, 10_000)
LIMIT_S = 240.0
SAMPLER = "in-memory sampler alone"
RUSTUNA = "Rustuna alone"
OURS = "ours, rdd"
REFERENCE = "reference, rdd"
# The CPU time that a trial may cost the driver, in ms, and what Optuna's sampler alone took on the machine where this
# goal was set: on another machine the ratio of the two is the goal.
GOALS_CPU_MS = {"b/fresh": (2.5, 5.7), "b/after 10000": (8.0, 67.8)}


def run(bench: Bench) -> CaseResult:
    """Run 1,000 trials in an empty study, then 200 in a study that holds 1,000, and 200 in one that holds 10,000."""
    result = CaseResult([], [])
    with bench.cluster(SLOTS) as cluster:
        say(f"b: {TRIALS} trials that take no time, {SLOTS} slots")
        fresh = Samples("b/fresh")
        run_all(bench, fresh, _contenders(bench.machine, cluster, 0, None), LIMIT_S)
        samples = [fresh]
        for history in HISTORIES:
            say(f"b: {FURTHER} trials more after {history}")
            stored = _history(bench.machine, cluster, history)
            samples.append(Samples(f"b/after {history}"))
            run_all(bench, samples[-1], _contenders(bench.machine, cluster, history, stored), LIMIT_S)
    for one in samples:
        result.measurements.extend(one.measurements())
    result.tables.append(table(samples))
    return result


def _contenders(machine: Machine, cluster: Cluster, history: int, stored: sqlalchemy.URL | None) -> list[Contender]:
    slow = None if history == 0 else 1  # coordination by the database takes long with a history
    rows = [
        Contender(SAMPLER, partial(_alone, machine, history, "optuna")),
        Contender(RUSTUNA, partial(_alone, machine, history, "rustuna", BENCH_ENV / "bin" / "python")),
        Contender(OURS, partial(_ours, machine, cluster, history, stored, "driver")),
        Contender(
            f"{OURS}, coordination database", partial(_ours, machine, cluster, history, stored, "database"), slow
        ),
    ]
    if history == 0:
        rows.append(Contender(REFERENCE, partial(_reference, machine, cluster)))
    return rows


def _history(machine: Machine, cluster: Cluster, trials: int) -> sqlalchemy.URL:
    """A database whose study holds this many finished trials.

    They come from random search, which is fast. How they were sampled does not change the time of later trials.
    """
    url = machine.new_database()
    spec = engine_spec("quadratic", trials=trials, tasks=SLOTS, distribution="rdd", run_id="history")
    spec = spec.with_changes(sampler=ComponentSpec("RandomSampler"))
    cluster.run("ours", [spec.to_json()], slots=SLOTS, url=url, timeout_s=LIMIT_S)
    return url


def _alone(machine: Machine, history: int, sampler: str, python: Path | None = None) -> dict[str, float] | None:
    arguments = ["--sampler", sampler, "--trials", str(FURTHER if history else TRIALS), "--history", str(history)]
    outcome = machine.run("in_memory", arguments, timeout_s=LIMIT_S, python=python)
    return None if outcome.timed_out else {n: outcome.measured[n] for n in ("wall_ms", "cpu_ms")}


def _ours(
    machine: Machine, cluster: Cluster, history: int, stored: sqlalchemy.URL | None, coordination: str
) -> dict[str, float] | None:
    trials = FURTHER if history else TRIALS
    # A copy, so that every run begins with the same history.
    url = machine.copy_database(stored) if stored is not None else machine.new_database()
    spec = engine_spec("quadratic", trials=trials, tasks=SLOTS, distribution="rdd", coordination=coordination)
    outcome = cluster.run("ours", [spec.to_json()], slots=SLOTS, url=url, timeout_s=LIMIT_S)
    return _per_trial(outcome, trials)


def _reference(machine: Machine, cluster: Cluster) -> dict[str, float] | None:
    url = machine.new_database()
    arguments = ["--distribution", "rdd", "--objective", "quadratic", "--trials", str(TRIALS), "--tasks", str(SLOTS)]
    outcome = cluster.run("reference", arguments, slots=SLOTS, url=url, timeout_s=LIMIT_S)
    return _per_trial(outcome, TRIALS)


def _per_trial(outcome: Outcome, trials: int) -> dict[str, float] | None:
    """Per trial: time from the first trial's start to the last one's end, and CPU time of the driver."""
    if outcome.timed_out:
        return None
    result = {"wall_ms": 1000 * outcome.window_s / trials}
    if "tune_cpu_s" in outcome.measured:
        result["cpu_ms"] = 1000 * outcome.measured["tune_cpu_s"] / trials
    return result


def table(samples: list[Samples]) -> Table:
    rows = []
    for one in samples:
        base = one.median(REFERENCE, "wall_ms")
        for name in dict.fromkeys(m.contender for m in one.measurements()):
            wall, cpu = one.median(name, "wall_ms"), one.median(name, "cpu_ms")
            alone = [ratio(own, one.median(SAMPLER, metric)) for own, metric in ((wall, "wall_ms"), (cpu, "cpu_ms"))]
            cells = (number(wall, 2), alone[0], ratio(wall, base), number(cpu, 2), alone[1])
            rows.append((f"{one.case}: {name}", *cells))
    columns = ("contender", "ms a trial", "of sampler alone", "of reference", "driver CPU ms", "of sampler alone")
    return Table(f"b: trials that take no time, {SLOTS} slots", columns, rows, _verdicts(samples))


def _verdicts(samples: list[Samples]) -> list[str]:
    fresh, short, long = samples
    ours, reference = fresh.median(OURS, "wall_ms"), fresh.median(REFERENCE, "wall_ms")
    early, late = short.median(OURS, "wall_ms"), long.median(OURS, "wall_ms")
    return [
        verdict("share of the reference's time a trial", divided(ours, reference), 0.25, at_most=True),
        verdict("cost after 10,000 trials, times that after 1,000", divided(late, early), 3.0, at_most=True),
        *(line for one in samples for line in _cpu_verdicts(one)),
    ]


def _cpu_verdicts(samples: Samples) -> list[str]:
    """Whether a trial costs the driver as little CPU time as it should, beside Optuna's sampler alone and in itself."""
    if samples.case not in GOALS_CPU_MS:
        return []
    goal, alone = GOALS_CPU_MS[samples.case]
    ours = samples.median(OURS, "cpu_ms")
    share = divided(ours, samples.median(SAMPLER, "cpu_ms"))
    what = f"{samples.case}: CPU of a trial in the driver"
    return [
        verdict(f"{what}, times that of Optuna's sampler alone", share, round(goal / alone, 3), at_most=True),
        verdict(f"{what}, ms", ours, goal, at_most=True),
    ]
