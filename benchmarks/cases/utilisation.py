"""Case a: how busy an engine keeps 32 slots, with trials that only sleep."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial

import sqlalchemy

from benchmarks import workload
from benchmarks.cases.bench import Bench, CaseResult, Contender, run_all
from benchmarks.cases.specs import engine_spec
from benchmarks.cases.studies import finished, trials_of
from benchmarks.machine import BENCH_ENV, Cluster, Machine, Outcome
from benchmarks.results import Samples, Table, costless_verdict, divided, number, ratio, verdict
from init.local.console import say
from init.local.ports import free_ports
from optuna_spark.spec.run_keys import COORDINATIONS, DISTRIBUTIONS

SLOTS = 32
FEW, MANY = 128, 1280
# A contender is stopped after this many seconds. The ideal times are 8 s and 80 s.
LIMIT_S = {FEW: 120.0, MANY: 150.0}
FLOOR = "floor (Spark, nothing to ask)"
BEST = "ours, rdd"
# MLflow counts its use, and would send that from every process.
NO_TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"


def run(bench: Bench, trials: int) -> CaseResult:
    """Run trials of 1 to 3 s with all contenders."""
    ideal = workload.ideal_s(trials, SLOTS)
    say(f"a: {trials} trials of 1 to 3 s on {SLOTS} slots, ideal {ideal:.1f} s")
    samples = Samples(f"a/{trials}")
    samples.note("ideal", "seconds", round(ideal, 3))
    with bench.cluster(SLOTS) as cluster:
        everybody = contenders(bench.machine, cluster, trials)
        run_all(bench, samples, [c for c in everybody if c.name not in bench.too_slow], LIMIT_S[trials])
    for name in bench.too_slow:
        samples.note(name, "not_run", "too slow with fewer trials")
    bench.too_slow.update(c.name for c in everybody if _too_slow(samples, c.name, trials))
    return CaseResult(samples.measurements(), [table(samples, trials)])


def contenders(machine: Machine, cluster: Cluster, trials: int) -> list[Contender]:
    """All contenders.

    With 1,280 trials only `BEST` runs more than once. The reference and coordination by the database then run with
    `rdd` only: ways to start workers differ only at the start, which is a small part of that time.
    """
    slow = 1 if trials == MANY else None
    rows = [Contender(FLOOR, lambda: _floor(cluster, trials), slow)]
    for coordination in COORDINATIONS:
        for distribution in DISTRIBUTIONS:
            if trials == MANY and coordination == "database" and distribution != "rdd":
                continue
            name = f"ours, {distribution}" + ("" if coordination == "driver" else ", coordination database")
            run_ours = partial(_ours, machine, cluster, distribution, coordination, trials)
            rows.append(Contender(name, run_ours, None if name == BEST else slow))
    for distribution in ("joblib", "rdd") if trials == FEW else ("rdd",):
        run_it = partial(_reference, machine, cluster, distribution, trials)
        rows.append(Contender(f"reference, {distribution}", run_it, slow))
    rows.append(Contender("Optuna processes", partial(_processes, machine, trials), slow))
    rows.append(Contender("Ray Tune, OptunaSearch", partial(_ray, machine, trials), slow))
    rows.append(Contender("MlflowSparkStudy", partial(_mlflow, machine, cluster, trials), slow))
    return rows


def _floor(cluster: Cluster, trials: int) -> dict[str, float] | None:
    outcome = cluster.run("floor", ["--trials", str(trials)], slots=SLOTS, timeout_s=LIMIT_S[trials])
    return _metrics(outcome, trials)


def _ours(
    machine: Machine, cluster: Cluster, distribution: str, coordination: str, trials: int
) -> dict[str, float] | None:
    changes = {"trials": trials, "tasks": SLOTS, "jobs": SLOTS, "distribution": distribution}
    arguments = [engine_spec("sleep_trial", coordination=coordination, **changes).to_json()]
    url, limit = machine.new_database(), LIMIT_S[trials]
    if distribution == "local":
        outcome = machine.run("ours", arguments, url=url, timeout_s=limit)
    else:
        outcome = cluster.run("ours", arguments, slots=SLOTS, url=url, timeout_s=limit)
    return _metrics(outcome, trials, url)


def _reference(machine: Machine, cluster: Cluster, distribution: str, trials: int) -> dict[str, float] | None:
    url = machine.new_database()
    arguments = ["--distribution", distribution, *_sleeps(trials)]
    outcome = cluster.run("reference", arguments, slots=SLOTS, url=url, timeout_s=LIMIT_S[trials])
    return _metrics(outcome, trials, url)


def _processes(machine: Machine, trials: int) -> dict[str, float] | None:
    url = machine.new_database()
    outcome = machine.run("optuna_processes", _sleeps(trials), url=url, timeout_s=LIMIT_S[trials])
    return _metrics(outcome, trials, url)


def _ray(machine: Machine, trials: int) -> dict[str, float] | None:
    arguments = ["--trials", str(trials), "--tasks", str(SLOTS)]
    # Ray's processes ask each other for a token. Without this one it leaves a token in the home folder.
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    python = BENCH_ENV / "bin" / "python"
    outcome = machine.run("ray_tune", arguments, timeout_s=LIMIT_S[trials], python=python, variables=token)
    return _metrics(outcome, trials)


def _mlflow(machine: Machine, cluster: Cluster, trials: int) -> dict[str, float] | None:
    (port,) = free_ports(1)
    arguments = [*_sleeps(trials), "--port", str(port), "--artifacts", str(machine.folder / "mlflow")]
    outcome = cluster.run(
        "mlflow_study",
        arguments,
        slots=SLOTS,
        url=machine.new_database(),
        timeout_s=LIMIT_S[trials],
        python=BENCH_ENV / "bin" / "python",
        conf={f"spark.executorEnv.{NO_TELEMETRY}": "true"},
        variables={NO_TELEMETRY: "true"},
    )
    return _metrics(outcome, trials)


def _sleeps(trials: int) -> list[str]:
    return ["--objective", "sleep_trial", "--trials", str(trials), "--tasks", str(SLOTS)]


def _metrics(outcome: Outcome, trials: int, url: sqlalchemy.URL | None = None) -> dict[str, float] | None:
    """The metrics of a run.

    Its time, the share of it that the slots were busy, and that an engine that costs nothing would take, the time of
    the whole program, when trials began, and how many finished.
    """
    if outcome.timed_out:
        return None
    measured = outcome.measured
    seconds, done = measured["seconds"], measured.get("finished")
    result = {
        "seconds": seconds,
        "utilisation": workload.ideal_s(trials, SLOTS) / seconds,
        "of_costless": workload.costless_s(trials, SLOTS) / seconds,
        "whole_s": outcome.whole_s,
    }
    # The database is asked where there is one: an engine that loses trials must not look fast.
    if url is not None:
        done = finished(trials_of(url))
    result |= {**outcome.start_up(SLOTS), "finished": float(done or 0)}
    return result | {name: measured[name] for name in ("tune_cpu_s",) if name in measured}


def table(samples: Samples, trials: int) -> Table:
    """The table: every contender compared with the floor and the reference, and the verdicts."""
    names = list(dict.fromkeys(m.contender for m in samples.measurements()))
    seconds: Callable[[str], float | None] = lambda name: samples.median(name, "seconds")  # noqa: E731
    # If the reference was stopped, its limit is the least time that it would have taken.
    base = seconds("reference, rdd") or _limit(samples, "reference, rdd")
    rows = []
    for name in names:
        value, busy = seconds(name), samples.median(name, "utilisation")
        shown = number(value) or _missing(samples, name)
        if name == "ideal":
            value, shown, busy = workload.ideal_s(trials, SLOTS), number(workload.ideal_s(trials, SLOTS)), 1.0
        first, all_slots = samples.median(name, "first_trial_s"), samples.median(name, "all_slots_s")
        faster = ratio(base, value) if value else ""
        costless = samples.median(name, "of_costless")
        shares = [number(share and 100 * share, 0, " %") for share in (busy, costless)]
        done = number(samples.median(name, "finished"), 0)
        times = [number(metric) for metric in (first, all_slots, samples.median(name, "whole_s"))]
        rows.append((name, shown, *shares, ratio(value, seconds(FLOOR)), faster, *times, done))
    ratios = "of floor", "faster than ref."
    columns = ("contender", "seconds", "busy", "of costless", *ratios, "first", "all slots", "whole", "finished")
    return Table(f"a: {trials} trials of 1 to 3 s on {SLOTS} slots", columns, rows, _verdicts(samples, trials, base))


def _missing(samples: Samples, name: str) -> str:
    """The text for a contender without a time."""
    if limit := _limit(samples, name):
        return f">{limit:.0f}"
    metrics = [m.metric for m in samples.measurements() if m.contender == name]
    return "not run" if "not_run" in metrics else "failed"


def _limit(samples: Samples, name: str) -> float | None:
    notes = [m for m in samples.measurements() if m.contender == name and m.metric == "stopped_after_s"]
    return float(notes[0].value) if notes else None


def _too_slow(samples: Samples, name: str, trials: int) -> bool:
    """Whether a contender would exceed the limit with `MANY` trials, even if the further ones took their ideal time."""
    seconds = samples.median(name, "seconds")
    if seconds is None:
        return _limit(samples, name) is not None
    return seconds + workload.ideal_s(MANY, SLOTS) - workload.ideal_s(trials, SLOTS) > LIMIT_S[MANY]


def _verdicts(samples: Samples, trials: int, reference: float | None) -> list[str]:
    ours, floor = samples.median(BEST, "seconds"), samples.median(FLOOR, "seconds")
    costless = workload.costless_s(trials, SLOTS)
    if trials == MANY:
        busy = samples.median(BEST, "utilisation")
        most = workload.ideal_s(trials, SLOTS) / costless
        return [
            verdict(f"{BEST}, share of the slots' time in use", busy, 0.96, at_most=False),
            f"an engine that costs nothing, its start included, would use {number(most, 3)}",
            costless_verdict(samples, BEST),
        ]
    return [
        verdict(f"{BEST}, times the floor", divided(ours, floor), 1.15, at_most=True),
        verdict(f"{BEST}, times as fast as the reference (rdd)", divided(reference, ours), 4.0, at_most=False),
        f"an engine that costs nothing, its start included, would be {ratio(reference, costless)} as fast",
        _beyond(ours, reference, costless),
        costless_verdict(samples, BEST),
    ]


def _beyond(ours: float | None, reference: float | None, costless: float) -> str:
    """A line on how many seconds the two engines add to the time of an engine that costs nothing."""
    if not ours or not reference:
        return "not measured: seconds beyond those of an engine that costs nothing"
    added, theirs = ours - costless, reference - costless
    words = f"{number(added)} s, {number(theirs)} s with the reference ({ratio(theirs, added)})"
    return f"beyond the {number(costless)} s of an engine that costs nothing: {words}"
