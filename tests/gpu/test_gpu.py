"""Trials on a real GPU: really there, several at once, and alone in their failures."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.trial import TrialState

from init.local.layout import REPOSITORY
from init.local.spark import GPU_DISCOVERY
from optuna_spark.data.load import forget_datasets, load_dataset
from optuna_spark.device import task_device
from optuna_spark.driver.run import tune
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec, ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_marks import error_of
from tests.support.programs import run_program
from tuning_pipeline.study_file.study_file import read_study

ONE_GPU = ResourceSpec(gpus_per_task=1)
EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


@pytest.fixture(scope="module")
def table_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(1)
    features = {f"f{i}": generator.standard_normal(50_000, dtype=np.float32) for i in range(20)}
    file = tmp_path_factory.mktemp("table") / "table.parquet"
    pq.write_table(pa.table({**features, "label": features["f0"] * 2 + features["f1"]}), file)
    return file


def xgboost_spec(table_file: Path, **changes: Any) -> TuningSpec:
    settings: dict[str, Any] = {
        "study_name": "study",
        "objective": "xgboost",
        "data": DataSpec(str(table_file), label="label"),
        "objective_section": {"num_boost_round": 30},
        "seed": 1,
        "trials": 4,
        "tasks": 1,
        "distribution": "local",
        "resources": ONE_GPU,
        "run_id": "one",
    }
    return TuningSpec(**{**settings, **changes})


def trials_of(url: str, state: TrialState) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="study", storage=url).get_trials(states=(state,))


def test_trials_train_on_the_gpu_and_agree_with_the_cpu(table_file: Path, url: str, tmp_path: Path) -> None:
    tune(xgboost_spec(table_file), url)
    on_gpu = trials_of(url, TrialState.COMPLETE)
    assert {trial.user_attrs["device"] for trial in on_gpu} == {"cuda:0"}
    cpu_url = f"sqlite:///{tmp_path}/cpu.sqlite3"
    tune(xgboost_spec(table_file, resources=ResourceSpec()), cpu_url)
    first_gpu, first_cpu = on_gpu[0], trials_of(cpu_url, TrialState.COMPLETE)[0]
    assert first_gpu.params == first_cpu.params
    assert first_gpu.value == pytest.approx(first_cpu.value, rel=0.05)


def test_a_booster_trained_like_a_trial_is_on_the_gpu() -> None:
    code = """
import json, numpy, xgboost
data = xgboost.QuantileDMatrix(numpy.random.rand(1000, 4).astype("float32"), numpy.random.rand(1000))
booster = xgboost.train({"device": "cuda:0", "tree_method": "hist"}, data, 2)
print(json.loads(booster.save_config())["learner"]["generic_param"]["device"])
"""
    assert python(code) == "cuda:0"


def test_the_table_is_read_with_cudf_into_gpu_memory(table_file: Path) -> None:
    pytest.importorskip("cudf")
    forget_datasets()
    dataset = load_dataset(DataSpec(str(table_file), label="label"), "regression", task_device(ONE_GPU, ["0"]))
    assert type(dataset.features).__module__.startswith("cupy")
    assert dataset.features.dtype == np.float32
    forget_datasets()


def test_four_workers_share_one_gpu_at_the_same_moment(url: str, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    spec = TuningSpec(
        study_name="study",
        objective="gpu_objectives:meets_the_others",
        search_space={"meeting": ParamSpec("categorical", choices=(str(meeting),))},
        trials=4,
        tasks=4,
        distribution="local",
        resources=ResourceSpec(gpus_per_task=0.25),
        run_id="one",
    )
    tune(spec, url)
    trials = trials_of(url, TrialState.COMPLETE)
    assert len({trial.user_attrs["pid"] for trial in trials}) == 4
    assert all(trial.user_attrs["bytes"] >= 64 * 2**20 for trial in trials)


def test_a_trial_out_of_memory_fails_alone(url: str) -> None:
    spec = TuningSpec(
        study_name="study",
        objective="gpu_objectives:fills_the_gpu_once",
        trials=4,
        tasks=1,
        distribution="local",
        resources=ONE_GPU,
        run_id="one",
    )
    tune(spec, url)
    assert len(trials_of(url, TrialState.COMPLETE)) == 4
    (failed,) = trials_of(url, TrialState.FAIL)
    assert "emory" in str(error_of(failed))


def test_the_pytorch_example_trains_on_the_gpu(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed in the Spark environment")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = read_study(EXAMPLES / "pytorch.yaml").to_spec("one")
    tune(spec.with_changes(study_name="study", distribution="local"), url)
    assert {trial.user_attrs["device"] for trial in trials_of(url, TrialState.COMPLETE)} == {"cuda:0"}


def test_spark_finds_the_gpus_of_this_machine() -> None:
    found = json.loads(run_program([GPU_DISCOVERY]).stdout)
    assert found["name"] == "gpu"
    assert found["addresses"]


@pytest.fixture
def mps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NVIDIA's Multi-Process Service, for this test alone. https://docs.nvidia.com/deploy/mps/"""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        pytest.skip("nvidia-cuda-mps-control is not installed here")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path / "pipe"))
    monkeypatch.setenv("CUDA_MPS_LOG_DIRECTORY", str(tmp_path / "log"))
    daemon = subprocess.Popen([control, "-f"])
    time.sleep(2)
    if daemon.poll() is not None:
        pytest.skip("the MPS control daemon does not start here")
    yield
    run_program([control], stdin="quit\n", code=None)
    daemon.wait(60)


@pytest.mark.usefixtures("mps")
def test_workers_use_mps_where_it_is_on(table_file: Path, url: str) -> None:
    tune(xgboost_spec(table_file, tasks=2, resources=ResourceSpec(gpus_per_task=0.5)), url)
    assert len(trials_of(url, TrialState.COMPLETE)) == 4
    log = Path(os.environ["CUDA_MPS_LOG_DIRECTORY"]) / "control.log"
    assert "client" in log.read_text().lower()


def python(code: str) -> str:
    """What a Python process of its own prints: CUDA shall not start in the tests' own."""
    done = run_program([sys.executable, "-c", code])
    return done.stdout.strip()
