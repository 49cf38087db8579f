"""A long search: a fixed number of trials at a time, each told as it ends, in an order that all contenders share."""

from __future__ import annotations

import argparse
import heapq
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.contenders.report import report
from benchmarks.contenders.samplers import SAMPLERS, Sampler
from benchmarks.searched import SEARCHED, Searched
from benchmarks.workload import duration_s

LAST = 1000


@dataclass(frozen=True)
class Found:
    """The values of a search and the CPU milliseconds of its proposals, both by the trial's number."""

    values: list[float]
    cpu_ms: list[float]

    def summary(self) -> dict[str, float]:
        """What the last trials reached: of these, a hundredth (a tenth, a half) are at or below the number."""
        last, cpu = np.array(self.values[-LAST:]), self.cpu_ms[-LAST:]
        shares = {"hundredth": 0.01, "tenth": 0.1, "median": 0.5}
        quantiles = {name: float(np.quantile(last, share)) for name, share in shares.items()}
        return {**quantiles, "best": min(self.values), "cpu_ms": float(np.mean(cpu))}


def search(sampler: Sampler, searched: Searched, trials: int, slots: int) -> Found:
    """Run the trials on a clock of its own, on which a trial takes as long as it would sleep in case a."""
    found = Found([0.0] * trials, [0.0] * trials)
    running: list[tuple[float, int, int, float]] = []  # when it ends, number, slot, value
    free = [(0.0, slot) for slot in reversed(range(slots))]
    asked = 0
    while free or running:
        while free and asked < trials:
            moment, slot = free.pop()
            before = time.process_time()
            number, params = sampler.ask(slot)
            found.cpu_ms[number] += 1000 * (time.process_time() - before)
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
    report(**search(sampler, searched, args.trials, args.slots).summary())


if __name__ == "__main__":
    main()
