"""A run whose Spark tasks do not start, on a real cluster: why it waits, and when it gives up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from init.local.spark import SparkCluster
from optuna_spark.spec.sections import ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.servers import private_spark
from tests.support.submit import TUNE, submit, submit_command, submit_environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

CORES = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[SparkCluster]:
    with private_spark(cores=CORES) as one:
        yield one


def arguments(name: str, function: str = "parabola", **changes: Any) -> list[str]:
    whole: dict[str, Any] = {"tasks": 1, "trials": 2, "distribution": "rdd", "wait_for_resources_s": 5.0, **changes}
    spec = TuningSpec(name, objective=f"sample_objectives:{function}", run_id="one", **whole)
    return ["--spec", spec.to_json()]


def environment(cluster: SparkCluster, folder: Path) -> dict[str, str]:
    return {
        "OPTUNA_STORAGE_URL": f"sqlite:///{folder}/study.sqlite3",
        "TUNING_FAILURE_FILE": str(folder / "failure.json"),
        "TUNING_SPARK_PAGE": cluster.web_url,
    }


def run_submit(
    cluster: SparkCluster, folder: Path, command: list[str], conf: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    told = environment(cluster, folder)
    return submit(cluster.master_url, folder, command, conf, TUNE, **told)


@pytest.mark.parametrize(
    ("changes", "conf", "sentence"),
    [
        ({"resources": ResourceSpec(cpus_per_task=64)}, {"spark.task.cpus": "64"}, "no worker has 64 cores"),
        ({}, {"spark.executor.memory": "900g"}, "no worker has 921,600 MiB of memory; the largest has 4,096"),
        (
            {},
            {"spark.executor.resource.gpu.amount": "1", "spark.task.resource.gpu.amount": "1"},
            "no worker has 1 GPU; the largest has 0",
        ),
        ({}, {"spark.cores.max": "1", "spark.executor.cores": "2"}, "spark.cores.max allows 1 in all"),
    ],
)
def test_what_nobody_can_give_ends_the_run_with_both_numbers(
    cluster: SparkCluster, tmp_path: Path, changes: dict[str, Any], conf: dict[str, str], sentence: str
) -> None:
    done = run_submit(cluster, tmp_path, arguments("s", **changes), conf)
    assert done.returncode == 1, done.stdout
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert failure["error"] == "ResourcesError"
    assert sentence in failure["what"]
    assert "executor_cores" in failure["next"]


def test_a_busy_cluster_is_waited_for_however_long_and_its_user_is_named(cluster: SparkCluster, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    all_cores = {"spark.executor.cores": str(CORES)}
    command = submit_command(
        cluster.master_url, first, arguments("first", "slow_parabola", trials=100_000, tasks=CORES), all_cores
    )
    holder = subprocess.Popen(
        command, env=submit_environment(**environment(cluster, first)), stdout=subprocess.PIPE, text=True
    )
    try:
        output = holder.stdout
        assert output is not None
        wait_until(lambda: " running" in (line := output.readline()) and "0 running" not in line, "trials to run")
        command = submit_command(cluster.master_url, second, arguments("second", wait_for_resources_s=1.0), all_cores)
        waiting = subprocess.Popen(
            command, env=submit_environment(**environment(cluster, second)), stdout=subprocess.PIPE, text=True
        )
        try:
            lines: list[str] = []
            assert waiting.stdout is not None
            for line in waiting.stdout:
                lines.append(line)
                if "No Spark task is at work" in line:
                    break
            assert "the cluster is busy with tune first (2 cores)" in lines[-1], lines
            end_one_that_waits(cluster, tmp_path / "third", all_cores)
            holder.terminate()
            rest, _ = waiting.communicate(timeout=300)
            assert "2/2 trials" in rest
            assert waiting.returncode == 0
        finally:
            waiting.kill()
            waiting.wait()
    finally:
        holder.kill()
        holder.wait()


def end_one_that_waits(cluster: SparkCluster, folder: Path, conf: dict[str, str]) -> None:
    """A run that has not begun its first trial is told to end: no trial needs its grace_s, which is an hour here."""
    folder.mkdir()
    done = run_submit(cluster, folder, arguments("third", timeout_s=1.0, grace_s=3600.0), conf)
    assert done.returncode == 0, done.stdout
    assert "The run was finished early by timeout_s (1 s): no trial is running, so it ends now" in done.stdout


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"spark.executor.cores": "1", "spark.task.cpus": "2"}, "number of cores per executor"),
        ({"spark.scheduler.mode": "sideways"}, "sideways"),
    ],
)
def test_a_property_that_spark_refuses_is_sparks_own_sentence(
    cluster: SparkCluster, tmp_path: Path, conf: dict[str, str], sentence: str
) -> None:
    done = run_submit(cluster, tmp_path, arguments("s"), conf)
    assert done.returncode == 1, done.stdout
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert failure["error"] == "SparkSettingsError"
    assert failure["what"].startswith("Spark refuses the application: ")
    assert sentence in failure["what"]
    assert "at org.apache" not in failure["what"] + failure["why"]
