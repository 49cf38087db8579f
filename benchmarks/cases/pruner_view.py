"""Case d: whether pruners answer in a long study as Optuna's own classes do with all trials shown."""

from __future__ import annotations

import itertools
import json

from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.cases.lanes import ONE_THREAD, in_lanes
from benchmarks.machine import ContenderError, Machine
from benchmarks.results import Samples, Table, number, verdict
from init.local.console import say
from optuna_spark.spec.sections import ComponentSpec

TRIALS = 5000
LIMIT_S = 1800.0
# Trials report after 2, 4, 8, 16 and 32 steps.
WARMUP = {"n_warmup_steps": 4}
PRUNERS = {
    "MedianPruner": ComponentSpec("MedianPruner", WARMUP),
    "PercentilePruner, 25": ComponentSpec("PercentilePruner", {"percentile": 25.0, **WARMUP}),
}


def run(bench: Bench) -> CaseResult:
    """Ask each pruner twice at each report of a study: as a run does, and Optuna's own class with all trials."""
    wanted = {name: pruner for name, pruner in PRUNERS.items() if bench.wanted(name)}
    say(f"d/pruners: {TRIALS} trials, {len(bench.seeds)} seeds: {', '.join(wanted)}")
    samples = Samples("d/pruners")

    def ask(machine: Machine, job: tuple[int, str]) -> dict[str, float]:
        seed, name = job
        return _ask(machine, wanted[name], seed)

    jobs = list(itertools.product(bench.seeds, wanted))
    for (_, name), measured in zip(jobs, in_lanes(bench.machine, jobs, ask), strict=True):
        samples.add(name, measured)
    return CaseResult(samples.measurements(), [table(samples)])


def _ask(machine: Machine, pruner: ComponentSpec, seed: int) -> dict[str, float]:
    arguments = ["--pruner", pruner.name, "--pruner-args", json.dumps(pruner.args)]
    arguments += ["--trials", str(TRIALS), "--seed", str(seed)]
    outcome = machine.run("pruner_view", arguments, timeout_s=LIMIT_S, variables=ONE_THREAD)
    if outcome.timed_out:
        raise ContenderError(f"d/pruners: {pruner.name}, seed {seed}: not done after {LIMIT_S:g} s")
    return {name: outcome.measured[name] for name in ("answers", "pruned", "pruned_by_optunas", "differ")}


def table(samples: Samples) -> Table:
    rows = []
    for name in PRUNERS:
        if (answers := samples.median(name, "answers")) is None:
            continue
        shares = [samples.median(name, metric) for metric in ("pruned", "pruned_by_optunas", "differ")]
        rows.append((name, number(answers, 0), *("" if s is None else number(100 * s, 1, " %") for s in shares)))
    verdicts = [
        verdict(f"{name}: share of answers that are not Optuna's", samples.median(name, "differ"), 0.0, at_most=True)
        for name in PRUNERS
    ]
    columns = ("pruner", "answers", "prune, in a run", "prune, Optuna's", "differ")
    return Table(f"d: answers of pruners in studies of {TRIALS:,} trials", columns, rows, verdicts)
