"""Case d's long form: what the last trials of a long search reach, with samplers that all see the whole history."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.cases.lanes import ONE_THREAD, in_lanes
from benchmarks.luck import spread
from benchmarks.machine import BENCH_ENV, ContenderError, Machine
from benchmarks.results import Samples, Table, divided, number, ratio, verdict
from benchmarks.searched import SEARCHED
from init.local.console import complain, detail, say

SHORT, LONG = 5000, 20_000
SLOTS = 64
OURS, OPTUNA, RUSTUNA = "ours", "Optuna", "Rustuna"
QUANTILES = {"hundredth": "best hundredth", "tenth": "best tenth", "median": "median"}
# How much worse than the whole history's a value may be, and the fewest seeds that tell.
GOAL, GOAL_SEEDS = 1.2, 10
# Now and then the last digits decide which of two proposals is taken.
SAME = 0.95
LIMIT_S = 6 * 3600.0


@dataclass(frozen=True)
class Sampler:
    """One row of the table.

    Attributes:
        name: Its name there.
        key: Its name in benchmarks.contenders.samplers.
        python: Its interpreter; None is that of the Spark environment.
    """

    name: str
    key: str
    python: Path | None = None


SAMPLERS = (
    Sampler(OURS, "ours"),
    Sampler(OPTUNA, "optuna"),
    Sampler(RUSTUNA, "rustuna", BENCH_ENV / "bin" / "python"),
)


@dataclass(frozen=True)
class Job:
    """One search."""

    seed: int
    searched: str
    sampler: Sampler


def run(bench: Bench, trials: int) -> CaseResult:
    """Search the three functions with each sampler and seed."""
    samplers = [sampler for sampler in SAMPLERS if takes_part(bench, sampler, trials)]
    names = ", ".join(sampler.name for sampler in samplers)
    say(f"d/{trials}: {trials} trials, {SLOTS} at a time, {len(bench.seeds)} seeds: {names}")
    jobs = [Job(*parts) for parts in itertools.product(bench.seeds, SEARCHED, samplers)]
    found = in_lanes(bench.machine, jobs, lambda machine, job: _search(machine, job, trials))
    cases = [samples_of(searched, trials, jobs, found) for searched in SEARCHED]
    measurements = [measurement for samples in cases for measurement in samples.measurements()]
    return CaseResult(measurements, [table(cases, trials)])


def takes_part(bench: Bench, sampler: Sampler, trials: int) -> bool:
    """Whether a sampler takes part. Optuna's needs hours for the longest searches, so there it must be named."""
    if sampler.name == OPTUNA and trials > SHORT and not bench.only:
        return False
    return bench.wanted(sampler.name)


def _search(machine: Machine, job: Job, trials: int) -> dict[str, float] | None:
    arguments = ["--sampler", job.sampler.key, "--searched", job.searched]
    arguments += ["--trials", str(trials), "--slots", str(SLOTS), "--seed", str(job.seed)]
    what = f"d/{trials}: {job.searched}, {job.sampler.name}, seed {job.seed}"
    try:
        outcome = machine.run(
            "long_search", arguments, timeout_s=LIMIT_S, python=job.sampler.python, variables=ONE_THREAD
        )
    except ContenderError as error:
        complain(f"{what}: {error}")
        return None
    detail(f"{what}: {outcome.whole_s:.0f} s")
    return outcome.measured or None


def samples_of(searched: str, trials: int, jobs: Sequence[Job], found: Sequence[dict[str, float] | None]) -> Samples:
    """The measurements of one function. Values count from the least one: only then can they be divided."""
    samples = Samples(f"d/{trials} {searched}")
    mine = [(job, values) for job, values in zip(jobs, found, strict=True) if job.searched == searched and values]
    least = SEARCHED[searched]().least
    if least is None:
        least = min((values["best"] for _, values in mine), default=0.0)
    samples.note("all", "least", least)
    for job, values in mine:
        above = {name: values[name] - least for name in QUANTILES}
        rest = {name: values[name] for name in ("cpu_ms", "of_optunas") if name in values}
        samples.add(job.sampler.name, above | rest)
    return samples


def table(cases: Sequence[Samples], trials: int) -> Table:
    """Medians over the seeds, each beside its multiple of the whole history's, and the verdicts."""
    rows = []
    for samples in cases:
        base = _base(samples)
        for sampler in SAMPLERS:
            if samples.median(sampler.name, "cpu_ms") is None:
                continue
            cells = [f"{samples.case.partition(' ')[2]}: {sampler.name}"]
            for name in QUANTILES:
                value = samples.median(sampler.name, name)
                cells += ["" if value is None else f"{value:.3g}", ratio(value, samples.median(base, name))]
            rows.append((*cells, number(samples.median(sampler.name, "cpu_ms"), 2)))
    columns = ["sampler", *itertools.chain(*((words, "ratio") for words in QUANTILES.values())), "CPU ms"]
    title = f"d: the last 1,000 of {trials:,} trials, {SLOTS} at a time: values above the least one"
    return Table(title, columns, rows, [line for samples in cases for line in _verdicts(samples)])


def _base(samples: Samples) -> str:
    """Whose values count as those of the whole history: Optuna's own, or Rustuna's where that did not run."""
    return OPTUNA if samples.values(OPTUNA, "median") else RUSTUNA


def _verdicts(samples: Samples) -> list[str]:
    base, searched = _base(samples), samples.case.partition(" ")[2]
    share = samples.median(OURS, "of_optunas")
    same = f"{searched}: share of the {SLOTS} proposals after the last trial that are Optuna's own"
    lines = [verdict(same, share, SAME, at_most=False)]
    for name, words in QUANTILES.items():
        share = divided(samples.median(OURS, name), samples.median(base, name))
        what = f"{searched}: {words}, times that of {base}'s"
        luck = spread(samples.values(OURS, name), samples.values(base, name), np.median)
        few = 0 < len(samples.values(OURS, name)) < GOAL_SEEDS
        lines.append(verdict(what, share, GOAL, at_most=True) + luck)
        lines[-1] += f"; the target is for SEEDS={GOAL_SEEDS} or more" if few else ""
    return lines
