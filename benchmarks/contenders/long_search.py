"""A long search: a fixed number of trials at a time, each told as it ends, in an order that all contenders share."""

from __future__ import annotations

import argparse
import heapq
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.contenders.report import report
from benchmarks.contenders.samplers import SAMPLERS, Sampler, share_of_optunas
from benchmarks.searched import SEARCHED, Searched
from benchmarks.workload import duration_s

LAST = 1000


@dataclass(frozen=True)
class Found:
    """The values of a search, the CPU milliseconds of its proposals and their parameters, all by the trial's number."""

    values: list[float]
    cpu_ms: list[float]
    params: list[Mapping[str, Any]] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """What the last trials reached: of these, a hundredth (a tenth, a half) are at or below the number."""
        last, cpu = np.array(self.values[-LAST:]), self.cpu_ms[-LAST:]
        shares = {"hundredth": 0.01, "tenth": 0.1, "median": 0.5}
        quantiles = {name: float(np.quantile(last, share)) for name, share in shares.items()}
        return {**quantiles, "best": min(self.values), "cpu_ms": float(np.mean(cpu))}


def search(sampler: Sampler, searched: Searched, trials: int, slots: int) -> Found:
    """Run the trials on a clock of its own, on which a trial takes as long as it would sleep in case a."""
    found = Found([0.0] * trials, [0.0] * trials, [{}] * trials)
    running: list[tuple[float, int, int, float]] = []  # when it ends, number, slot, value
    free = [(0.0, slot) for slot in reversed(range(slots))]
    asked = 0
    while free or running:
        while free and asked < trials:
            moment, slot = free.pop()
            before = time.process_time()
            number, params = sampler.ask(slot)
            found.cpu_ms[number] += 1000 * (time.process_time() - before)
            found.params[number] = params
            asked += 1
            heapq.heappush(running, (moment + duration_s(number), number, slot, searched.value(params)))
        if not running:
            break
        moment, number, slot, value = heapq.heappop(running)
        before = time.process_time()
        sampler.tell(slot, number, value)
        found.cpu_ms[number] += 1000 * (time.process_time() - before)
        found.values[number] = value
        free.append((moment, slot))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sampler", choices=SAMPLERS, required=True)
    parser.add_argument("--searched", choices=SEARCHED, required=True)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    searched = SEARCHED[args.searched]()
    sampler = SAMPLERS[args.sampler](searched.space, args.trials, args.slots, args.seed)
    found = search(sampler, searched, args.trials, args.slots)
    result = found.summary()
    if args.sampler == "ours":
        result["of_optunas"] = share_of_optunas(searched.space, found.values, found.params, args.slots)
    report(**result)


if __name__ == "__main__":
    main()
