"""The GPU or CPU cores a worker trains on.

Everything here but `require_cuda` is plain reasoning about addresses: no CUDA, so it may run before a fork and
on machines without a GPU.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from optuna_spark.errors import DeviceError
from optuna_spark.spec.sections import ResourceSpec

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Spark's addresses come from nvidia-smi, which counts in PCI order; CUDA's own default order is fastest first.
ORDER = "CUDA_DEVICE_ORDER"
# Set beside VISIBLE when this module chose it, so that a reused Python worker does not take its own choice for
# the cluster manager's.
CHOSEN = "TUNING_CHOSEN_DEVICES"


@dataclass(frozen=True)
class Device:
    """What a trial runs on.

    Attributes:
        kind: cpu or cuda.
        index: Number of the GPU as this process counts them; None on the CPU.
        threads: CPU threads a trial may use.
        indices: Numbers of all GPUs of the trial, `index` first; empty on the CPU.
    """

    kind: Literal["cpu", "cuda"]
    index: int | None
    threads: int
    indices: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The device as XGBoost and PyTorch write it: cpu, cuda:0."""
        return "cpu" if self.kind == "cpu" else f"cuda:{self.index}"


def task_device(resources: ResourceSpec, addresses: Sequence[str] | None) -> Device:
    """The device of a Spark task, made visible to CUDA where it is a GPU.

    Does not touch the GPU: call `require_cuda` before using it.

    Args:
        resources: What a task occupies.
        addresses: The GPU addresses Spark gave the task; None or empty when it gave none.

    Raises:
        DeviceError: GPUs were asked for, and Spark gave too few or this process cannot see the one given.
    """
    if resources.gpus_per_task == 0:
        return Device("cpu", None, resources.cpus_per_task)
    given = [a.strip() for a in addresses or () if a.strip()]
    needed = max(1, int(resources.gpus_per_task))
    if len(given) < needed:
        raise DeviceError(
            f"the task needs {needed} GPU(s) (resources.gpus_per_task is {resources.gpus_per_task:g}) but Spark"
            f" gave it {len(given)}: start the Spark workers with a GPU discovery script, or set"
            " resources.gpus_per_task to 0 to train on the CPU"
        )
    indices = visible_indices(given, os.environ, cuda_started())
    return Device("cuda", indices[0], resources.cpus_per_task, indices)


def visible_indices(given: Sequence[str], environ: MutableMapping[str, str], cuda_started: bool) -> tuple[int, ...]:
    """The indices of the given GPUs among those this process may see; limits CUDA to them if nobody did.

    Args:
        given: The task's GPU addresses.
        environ: The process environment; changed where it does not limit CUDA yet.
        cuda_started: CUDA has read the environment already, so changing it has no effect.

    Raises:
        DeviceError: The process is limited to other GPUs.
    """
    visible = environ.get(VISIBLE)
    wanted = ",".join(given)
    chosen_here = visible is None or visible == environ.get(CHOSEN)
    if chosen_here and visible != wanted:
        if cuda_started:
            raise DeviceError(
                f"this Python worker already uses GPU {visible or 'any'} and the new task was given GPU {wanted}:"
                " set spark.python.worker.reuse to false"
            )
        environ[VISIBLE] = environ[CHOSEN] = visible = wanted
        environ.setdefault(ORDER, "PCI_BUS_ID")
    entries = [entry.strip() for entry in (visible or "").split(",")]
    hidden = [address for address in given if address not in entries]
    if hidden:
        raise DeviceError(
            f"Spark gave GPU {hidden[0]!r} but {VISIBLE} is {visible!r} in this process: unset it, or let the GPU"
            " discovery script print the names it holds"
        )
    return tuple(entries.index(address) for address in given)


def cuda_started() -> bool:
    """Whether anything in this process has loaded the CUDA driver library, and so may have read the environment."""
    maps = Path("/proc/self/maps")
    return maps.exists() and "libcuda.so" in maps.read_text()


def require_cuda(device: Device) -> None:
    """Check that the GPUs of `device` answer. Does nothing on the CPU.

    Asks the CUDA driver library itself: that needs no package, and takes no GPU memory. Call it only in the
    process that trains, because CUDA does not survive a fork.

    Raises:
        DeviceError: There is no CUDA driver, or not one of those GPUs.
    """
    if device.kind == "cpu":
        return
    advice = "; run nvidia-smi on this machine, or set resources.gpus_per_task to 0 to train on the CPU"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceError(f"{device.name} was given but this machine has no NVIDIA driver{advice}") from error
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code != 0:
        raise DeviceError(f"{device.name} was given but CUDA does not start (driver error {code}){advice}")
    if device.index is None or max((device.index, *device.indices)) >= count.value:
        raise DeviceError(f"{device.name} was given but CUDA sees {count.value} GPU(s){advice}")


def check_cufile_policy(path: str, environ: MutableMapping[str, str] | None = None) -> None:
    """Check that cuDF may read `path`: files of Databricks' mounts cannot be read through GPUDirect Storage.

    Raises:
        DeviceError: LIBCUDF_CUFILE_POLICY is not OFF and the path is a mount.
    """
    policy = (os.environ if environ is None else environ).get("LIBCUDF_CUFILE_POLICY", "")
    if path.startswith(("/dbfs/", "/Volumes/", "/Workspace/")) and policy != "OFF":
        raise DeviceError(
            f"LIBCUDF_CUFILE_POLICY must be OFF to read {path} with cuDF, got {policy!r}: set it in the"
            " cluster's environment variables"
        )
