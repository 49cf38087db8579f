"""Which GPU a task uses, from the addresses Spark gives it. None of it needs a GPU."""

from __future__ import annotations

import ctypes.util
import os

import pytest

from optuna_spark.device import CHOSEN, VISIBLE, Device, check_cufile_policy, require_cuda, task_device, visible_indices
from optuna_spark.errors import DeviceError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.spec.sections import ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.programs import run_python


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VISIBLE, CHOSEN, "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # restores them afterwards
        monkeypatch.delenv(name)


def test_a_task_without_gpus_uses_its_cores() -> None:
    assert task_device(ResourceSpec(cpus_per_task=3), ["0"]) == Device("cpu", None, 3)
    assert VISIBLE not in os.environ


def test_the_given_gpu_becomes_the_only_one_cuda_sees() -> None:
    device = task_device(ResourceSpec(gpus_per_task=0.25), ["1"])
    assert (device.kind, device.index, device.name) == ("cuda", 0, "cuda:0")
    assert os.environ[VISIBLE] == "1"
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_several_gpus_stay_visible_and_an_own_objective_gets_them_all() -> None:
    device = task_device(ResourceSpec(cpus_per_task=4, gpus_per_task=2.0), ["2", "3"])
    assert (device.index, device.indices) == (0, (0, 1))
    assert os.environ[VISIBLE] == "2,3"
    context = ObjectiveContext(TuningSpec("s", objective="own:f"), device)
    assert [(one.name, one.threads) for one in context.devices] == [("cuda:0", 4), ("cuda:1", 4)]


def test_a_trial_on_one_device_has_that_one_alone() -> None:
    for device in (Device("cpu", None, 3), task_device(ResourceSpec(gpus_per_task=0.5), ["1"])):
        assert ObjectiveContext(TuningSpec("s", objective="own:f"), device).devices == (device,)


def test_a_second_gpu_that_the_process_may_not_see_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"gave GPU '1' but CUDA_VISIBLE_DEVICES is '0'"):
        visible_indices(["0", "1"], {VISIBLE: "0"}, cuda_started=False)


@pytest.mark.parametrize("addresses", [None, [], [" "]])
def test_a_gpu_that_was_asked_for_and_not_given_is_an_error(addresses: list[str] | None) -> None:
    with pytest.raises(DeviceError, match=r"needs 1 GPU\(s\) .* gave it 0: start the Spark workers with"):
        task_device(ResourceSpec(gpus_per_task=0.5), addresses)


def test_fewer_gpus_than_asked_for_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"needs 2 GPU\(s\) .* gave it 1"):
        task_device(ResourceSpec(gpus_per_task=2.0), ["0"])


def test_where_the_cluster_limits_the_process_the_address_is_looked_up() -> None:
    environ = {VISIBLE: "3, 1"}
    assert visible_indices(["1"], environ, cuda_started=True) == (1,)
    assert environ == {VISIBLE: "3, 1"}


@pytest.mark.parametrize("visible", ["", "-1", "1", "GPU-8f2e"])
def test_a_gpu_the_process_may_not_see_is_an_error(visible: str) -> None:
    with pytest.raises(DeviceError, match=rf"gave GPU '0' but CUDA_VISIBLE_DEVICES is '{visible}'"):
        visible_indices(["0"], {VISIBLE: visible}, cuda_started=False)


def test_a_reused_worker_takes_its_new_gpu_while_cuda_has_not_started() -> None:
    environ: dict[str, str] = {}
    assert visible_indices(["0"], environ, cuda_started=False) == (0,)
    assert visible_indices(["1"], environ, cuda_started=False) == (0,)
    assert environ[VISIBLE] == "1"


def test_a_reused_worker_whose_cuda_has_started_keeps_its_gpu_or_fails() -> None:
    environ: dict[str, str] = {}
    visible_indices(["0"], environ, cuda_started=False)
    assert visible_indices(["0"], environ, cuda_started=True) == (0,)
    with pytest.raises(DeviceError, match=r"already uses GPU 0 .* given GPU 1: set spark.python.worker.reuse"):
        visible_indices(["1"], environ, cuda_started=True)


def test_a_gpu_cannot_be_chosen_once_cuda_has_started_with_all() -> None:
    with pytest.raises(DeviceError, match="already uses GPU any and the new task was given GPU 0"):
        visible_indices(["0"], {}, cuda_started=True)


def test_a_gpu_that_is_not_there_is_an_error() -> None:
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(DeviceError, match=r"cuda:0 was given but this machine has no NVIDIA driver; run nvidia-smi"):
        require_cuda(Device("cuda", 0, 1))
    require_cuda(Device("cpu", None, 1))


def test_choosing_a_device_imports_nothing_heavy() -> None:
    code = (
        "import sys; from optuna_spark.device import task_device; from optuna_spark.spec.sections import ResourceSpec;"
        "task_device(ResourceSpec(gpus_per_task=1), ['0']);"
        "print(sorted({'numpy', 'pyarrow', 'xgboost', 'cupy'} & set(sys.modules)))"
    )
    assert run_python(code).stdout == "[]\n"


@pytest.mark.parametrize("path", ["/dbfs/t.csv", "/Volumes/main/a/b/t.parquet"])
def test_cudf_may_read_databricks_mounts_only_without_gpudirect(path: str) -> None:
    with pytest.raises(DeviceError, match=f"LIBCUDF_CUFILE_POLICY must be OFF to read {path} with cuDF, got 'KVIKIO'"):
        check_cufile_policy(path, {"LIBCUDF_CUFILE_POLICY": "KVIKIO"})
    check_cufile_policy(path, {"LIBCUDF_CUFILE_POLICY": "OFF"})
    check_cufile_policy("/data/t.csv", {})
