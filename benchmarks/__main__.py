"""Runs the cases of the benchmark and prints a table for each. `make bench` calls it."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna

from benchmarks.cases import (
    long_search,
    memory,
    pipeline,
    pruner_view,
    sampler_cost,
    search,
    speedup,
    trial_cost,
    utilisation,
)
from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.machine import machine
from benchmarks.results import Measurement, save
from init.local.console import complain, detail, say, show
from init.local.layout import REPOSITORY

CASES: dict[str, Callable[[Bench], CaseResult]] = {
    "a/128": partial(utilisation.run, trials=utilisation.FEW),
    "a/1280": partial(utilisation.run, trials=utilisation.MANY),
    "b": trial_cost.run,
    "c": speedup.run,
    "d/pruning": search.run,
    "d/pruners": pruner_view.run,
    "d/5000": partial(long_search.run, trials=long_search.SHORT),
    "d/20000": partial(long_search.run, trials=long_search.LONG),
    "e": pipeline.run,
    "f": memory.run,
    "samplers": sampler_cost.run,
}
RESULTS = REPOSITORY / "benchmarks" / "results"
LOGS = REPOSITORY / ".state" / "bench"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--cases", default="", help="some of them, as a,c; all by default")
    parser.add_argument("--runs", type=int, default=3, help="how often each contender runs; the median counts")
    parser.add_argument("--seeds", type=int, default=3, help="with how many seeds the long searches of case d run")
    parser.add_argument("--only", default="", help="contenders whose name holds one of these texts, as floor;ours, rdd")
    parser.add_argument("--results", type=Path, default=RESULTS / "latest.json")
    return parser.parse_args(arguments)


def chosen(text: str) -> list[str]:
    """The cases that were asked for; all if none was.

    Raises:
        ValueError: There is no such case.
    """
    asked = [name.strip() for name in text.split(",") if name.strip()]
    for name in asked:
        if not any(matches(case, name) for case in CASES):
            raise ValueError(f"CASES must be some of {','.join(CASES)}, got {name!r}")
    return [case for case in CASES if not asked or any(matches(case, name) for name in asked)]


def matches(case: str, name: str) -> bool:
    """Whether `name` stands for this case: `a/128` for itself, `a` for all its sizes."""
    return name in (case, case.partition("/")[0])


def about(case: str) -> list[Measurement]:
    """The date and the machine of a measurement."""
    memory_kib = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0])
    facts: dict[str, float | str] = {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20, 1),
        "load_before": os.getloadavg()[0],  # shows later whether the machine was busy with something else
        "python": platform.python_version(),
    }
    return [Measurement(case, "machine", name, value) for name, value in facts.items()]


def in_case(name: str, facts: list[Measurement], result: CaseResult) -> list[Measurement]:
    """The measurements of a case, with the facts about the machine added to each part (b/fresh, b/after 1000)."""
    parts = dict.fromkeys(measurement.case for measurement in result.measurements) or {name: None}
    return [replace(fact, case=part) for part in parts for fact in facts] + result.measurements


def main(arguments: list[str]) -> int:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = parse(arguments)
    try:
        names = chosen(options.cases)
    except ValueError as error:
        complain(str(error))
        return 2
    only = tuple(part.strip() for part in options.only.split(";") if part.strip())
    started, tables = time.monotonic(), []
    with machine(LOGS) as servers:
        too_slow = set[str]()  # filled by case a/128, for a/1280
        for name in names:
            before = about(name)
            result = CASES[name](Bench(servers, options.runs, only, range(1, options.seeds + 1), too_slow))
            # After each case: an interrupted benchmark keeps those that are done.
            save(options.results, in_case(name, before, result))
            tables += result.tables
            for table in result.tables:
                show(table.text())
    if len(names) > 1:
        say("all cases")
        for table in tables:
            show(table.text())
    detail(f"{(time.monotonic() - started) / 60:.0f} minutes; numbers in {options.results}, logs in {LOGS}")
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # An exception instead of the end of the process, so that the servers are stopped.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        complain("interrupted; everything that was started is stopped")
        sys.exit(130)
