"""Workers as plain processes on this machine: no Spark, no Java."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import cast

from optuna_spark.distribution.python_daemon import reseed
from optuna_spark.errors import DeviceError
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload, WorkerReport
from optuna_spark.worker.worker import run_worker

log = logging.getLogger(__name__)

# From a worker's report to the end of its process; an objective may have started threads that never end.
END_S = 30.0
# As spark.task.maxFailures: a worker that dies is started again so often, less one.
STARTS = 4
_NAME = "tuning-worker-"


def launch_local(spec: TuningSpec, payload: WorkerPayload) -> list[WorkerReport]:
    """Start the workers, start again those that die, and collect their reports."""
    addresses = local_gpus(spec)
    starts = dict.fromkeys(range(spec.tasks), 0)
    waiting, reports = list(starts), []
    running: dict[Connection, tuple[int, ForkServerProcess]] = {}
    while waiting or running:
        for index in waiting:
            starts[index] += 1
            reader, process = _start(payload, index, addresses[index])
            running[reader] = (index, process)
        waiting = []
        for ready in wait(list(running)):
            reader = cast(Connection, ready)  # wait returns what it was given
            index, process = running.pop(reader)
            report = _report(reader, index, process)
            # One that SIGTERM ended was told to end.
            died = report.error_kind == "WorkerDied" and process.exitcode != -signal.SIGTERM
            if died and starts[index] < STARTS:
                waiting.append(index)
            else:
                reports.append(report)
    return reports


def end_workers() -> None:
    """End this process's workers in the middle of their trials."""
    for process in multiprocessing.active_children():
        if process.name.startswith(_NAME):
            process.terminate()


def _start(payload: WorkerPayload, index: int, addresses: Sequence[str] | None) -> tuple[Connection, ForkServerProcess]:
    # Not fork: a forked process cannot use CUDA if its parent did. The server these are forked from imports what a
    # worker needs, once for all of them, and nothing of CUDA.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optuna_spark.worker.worker"])
    reader, writer = context.Pipe(duplex=False)
    arguments = (writer, dict(os.environ), payload, index, addresses)
    process = context.Process(target=_main, args=arguments, daemon=True, name=f"{_NAME}{index}")
    process.start()
    writer.close()
    return reader, process


def _main(
    writer: Connection,
    environment: Mapping[str, str],
    payload: WorkerPayload,
    index: int,
    addresses: Sequence[str] | None,
) -> None:
    # The server may be older than what this process has in its environment, and its random numbers are everybody's.
    os.environ.update(environment)
    reseed()
    writer.send(run_worker(payload, index, addresses))


def _report(reader: Connection, index: int, process: ForkServerProcess) -> WorkerReport:
    try:
        report: WorkerReport = reader.recv()
    except EOFError:
        _end(process, index)
        text = f"worker {index} died with exit code {process.exitcode}"
        return WorkerReport(index, f"local:{process.pid}", 0, text, "WorkerDied")
    _end(process, index)
    return report


def _end(process: ForkServerProcess, index: int) -> None:
    """Wait for a process that has nothing left to do, and kill it when it does not end."""
    process.join(END_S)
    if process.is_alive():
        log.warning("[tuning] Worker %d, process %s, did not end within %g s: killed", index, process.pid, END_S)
        process.kill()
        process.join(END_S)


def local_gpus(spec: TuningSpec) -> list[Sequence[str] | None]:
    """Which GPU each worker gets: as many workers on a GPU as `gpus_per_task` allows.

    Raises:
        DeviceError: The workers need more GPUs than this machine has.
    """
    each = spec.resources.gpus_per_task
    if not each:
        return [None] * spec.tasks
    gpus = visible_gpus()
    if each >= 1:
        groups: list[Sequence[str]] = [gpus[i : i + int(each)] for i in range(0, len(gpus), int(each))]
        slots = [group for group in groups if len(group) == int(each)]
    else:
        slots = [[gpu] for gpu in gpus for _ in range(int(1 / each + 1e-9))]
    if len(slots) < spec.tasks:
        raise DeviceError(
            f"{spec.tasks} tasks of {each:g} GPU do not fit on {len(gpus)} GPU(s) of this machine:"
            " lower tasks or resources.gpus_per_task"
        )
    return list(slots[: spec.tasks])


def visible_gpus() -> list[str]:
    """Addresses of this machine's GPUs, as CUDA_VISIBLE_DEVICES or nvidia-smi names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return output.split()
