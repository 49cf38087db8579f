"""Shared by all cases: the servers, the contenders of a table, and running them in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.machine import Cluster, ContenderError, Machine, cluster
from benchmarks.results import Measurement, Samples, Table
from init.local.console import complain, detail


@dataclass(frozen=True)
class Bench:
    """The benchmark as a case sees it.

    Attributes:
        machine: The servers.
        runs: How often each contender runs.
        only: Run only contenders whose name contains one of these; empty means all.
        seeds: The samplers' seeds in the long searches of case d.
        too_slow: The contenders of case a that would exceed the time limit with more trials.
    """

    machine: Machine
    runs: int
    only: tuple[str, ...] = ()
    seeds: Sequence[int] = range(1, 4)
    too_slow: set[str] = field(default_factory=set)

    @contextmanager
    def cluster(self, slots: int) -> Iterator[Cluster]:
        with cluster(self.machine, slots) as running:
            yield running

    def wanted(self, contender: str) -> bool:
        return not self.only or any(part in contender for part in self.only)


@dataclass(frozen=True)
class CaseResult:
    """The result of a case."""

    measurements: list[Measurement]
    tables: list[Table]


@dataclass(frozen=True)
class Contender:
    """One row of a table.

    Attributes:
        name: Its name in the table.
        run: Runs it once. Returns its metrics, or None if it was stopped at its time limit.
        most_runs: How often it runs at most, for a slow one; None means as often as asked.
    """

    name: str
    run: Callable[[], dict[str, float] | None]
    most_runs: int | None = None


def run_all(bench: Bench, samples: Samples, contenders: list[Contender], limit_s: float) -> None:
    """Run the contenders in turns, so that a busy minute of the machine slows down all of them alike."""
    waiting = [contender for contender in contenders if bench.wanted(contender.name)]
    for turn in range(bench.runs):
        for contender in list(waiting):
            if contender.most_runs is not None and turn >= contender.most_runs:
                continue
            if not run_one(samples, contender, turn, limit_s):
                waiting.remove(contender)


def run_one(samples: Samples, contender: Contender, turn: int, limit_s: float) -> bool:
    """Run a contender once. Returns whether it makes sense to run it again."""
    started = time.monotonic()
    try:
        measured = contender.run()
    except ContenderError as error:
        complain(f"{samples.case}: {contender.name}: {error}")
        samples.note(contender.name, "failed", str(error).splitlines()[0])
        return False  # it would fail again, and the other cases should still run
    took = time.monotonic() - started
    if measured is None:
        detail(f"{samples.case}: {contender.name}: stopped after {took:.0f} s")
        samples.note(contender.name, "stopped_after_s", limit_s)
        return False
    samples.add(contender.name, measured)
    shown = ", ".join(f"{name} {value:.2f}" for name, value in list(measured.items())[:3])
    detail(f"{samples.case}: {contender.name}, run {turn + 1}: {shown} ({took:.0f} s in all)")
    return True
