"""Runs the searches of case d side by side, one for each core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from benchmarks.machine import Machine

Job = TypeVar("Job")
Result = TypeVar("Result")
# For a program that searches alone in its lane: NumPy would use every core.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def in_lanes(machine: Machine, jobs: Iterable[Job], run: Callable[[Machine, Job], Result]) -> list[Result]:
    """Run all jobs, as many at a time as there are cores: searches that share one make each other's seconds longer.

    Args:
        machine: The servers. Each running job has files of its own on it.
        jobs: What to run.
        run: Runs one job.

    Returns:
        The results in the order of the jobs.
    """
    lanes: SimpleQueue[Machine] = SimpleQueue()
    for lane in range(len(os.sched_getaffinity(0))):
        lanes.put(machine.lane(lane))

    def in_a_lane(job: Job) -> Result:
        lane = lanes.get()
        try:
            return run(lane, job)
        finally:
            lanes.put(lane)

    with ThreadPoolExecutor(lanes.qsize()) as pool:
        return list(pool.map(in_a_lane, jobs))
