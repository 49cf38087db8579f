"""The job on a real standalone cluster: every way to start a worker, GPUs, and the reference's three examples."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec, ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_marks import marks_of
from tests.support.processes import processes_naming
from tests.support.submit import submit, submit_command, submit_environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

WINE = REPOSITORY.parent / "shared" / "data" / "winequality-red.csv"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


def submit_into_failure(
    cluster: SparkCluster, folder: Path, arguments: list[str], url: str
) -> tuple[dict[str, str], str]:
    """The card that a job which must fail leaves behind, and what it printed."""
    failure = folder / "failure.json"
    done = submit(cluster.master_url, folder, arguments, OPTUNA_STORAGE_URL=url, TUNING_FAILURE_FILE=str(failure))
    assert done.returncode != 0, done.stdout
    return json.loads(failure.read_text()), done.stdout


def study_at(url: str) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=url)


def test_the_quadratic_example_runs_with_joblib(spark_cluster: SparkCluster, tmp_path: Path, url: str) -> None:
    done = submit(spark_cluster.master_url, tmp_path, ["--trials", "20"], OPTUNA_STORAGE_URL=url)
    assert done.returncode == 0, done.stdout
    assert "[tuning] 20/20 trials" in done.stdout
    assert "Best value" in done.stdout
    study = study_at(url)
    assert study.study_name == "optuna-spark-quadratic"
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 20


def test_an_executor_is_woken_by_an_empty_task_before_the_run_starts_its_workers(
    spark_cluster: SparkCluster, tmp_path: Path, url: str
) -> None:
    events = tmp_path / "events"
    events.mkdir()
    conf = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file://{events}"}
    conf |= {"spark.eventLog.compress": "false", "spark.eventLog.rolling.enabled": "false"}
    arguments = ["--trials", "4", "--tasks", "3", "--distribution", "rdd"]
    done = submit(spark_cluster.master_url, tmp_path, arguments, conf, OPTUNA_STORAGE_URL=url)
    assert done.returncode == 0, done.stdout
    assert tasks_of_jobs(events) == [1, 3]


def tasks_of_jobs(events: Path) -> list[int]:
    """How many tasks each job of an application had, by its event log."""
    (file,) = events.iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    starts = [line for line in lines if line["Event"] == "SparkListenerJobStart"]
    return [sum(stage["Number of Tasks"] for stage in start["Stage Infos"]) for start in starts]


@pytest.mark.skipif(not WINE.exists(), reason="the wine table is not here: see the study wine_quality")
@pytest.mark.parametrize("distribution", ["joblib", "rdd", "dataframe"])
def test_the_xgboost_example_runs(spark_cluster: SparkCluster, tmp_path: Path, url: str, distribution: str) -> None:
    arguments = ["--filepath", str(WINE), "--trials", "4", "--distribution", distribution, "--seed", "1"]
    done = submit(spark_cluster.master_url, tmp_path, arguments, OPTUNA_STORAGE_URL=url)
    assert done.returncode == 0, done.stdout
    study = study_at(url)
    assert study.study_name == "optuna-spark-xgboost"
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 4
    assert 0.3 < study.best_value < 1.0
    assert set(study.best_params) == {
        "learning_rate", "max_depth", "subsample", "colsample_bytree", "min_child_weight", "max_bin",
    }  # fmt: skip


# A program of a user's own: tuning follows other steps, on the same session, and no file lies between.
FOLLOWING = """
import sys
from pyspark.sql import SparkSession
from optuna_spark.driver.run import tune
from optuna_spark.spec.tuning import TuningSpec

if __name__ == "__main__":
    spark = SparkSession.builder.getOrCreate()
    rows = spark.range(400).selectExpr("id % 20 AS x", "id % 7 AS z", "3 * (id % 20) + id % 7 AS y", "id")
    rows.where("id < 300").drop("id").createOrReplaceTempView("train")
    tune(TuningSpec.from_json(sys.argv[1]), sys.argv[2], spark)
"""


def test_tuning_follows_other_dataframe_steps_of_the_same_session(
    spark_cluster: SparkCluster, tmp_path: Path, url: str
) -> None:
    program = tmp_path / "following.py"
    program.write_text(FOLLOWING)
    spec = TuningSpec(
        study_name="following",
        objective="sample_objectives:table_shape",
        search_space={"x": ParamSpec("float", low=0, high=1)},
        data=DataSpec("train", format="table", label="y"),
        distribution="dataframe",
        trials=4,
    )
    done = submit(spark_cluster.master_url, tmp_path, [spec.to_json(), url], program=program)
    assert done.returncode == 0, done.stdout
    tables = [t.user_attrs["table"] for t in study_at(url).get_trials(states=(TrialState.COMPLETE,))]
    assert tables == [{"rows": 300, "columns": ["x", "z", "y"]}] * 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DataSpec("/nowhere/t.orc", format="orc"), "PATH_NOT_FOUND"),
        (DataSpec("no_such_table", format="table"), "TABLE_OR_VIEW_NOT_FOUND"),
        (DataSpec("/nowhere/t", format="nonsense"), "DATA_SOURCE_NOT_FOUND"),
    ],
)
def test_a_table_spark_cannot_read_is_one_sentence(
    spark_cluster: SparkCluster, tmp_path: Path, url: str, data: DataSpec, reason: str
) -> None:
    spec = TuningSpec(study_name="s", objective="xgboost", data=data, distribution="dataframe", trials=1)
    card, output = submit_into_failure(spark_cluster, tmp_path, ["--spec", spec.to_json()], url)
    # Of another part Spark itself may log a stack: it stops while its executors still start.
    assert "at org.apache.spark.sql" not in output
    assert card["error"] == "DataError"
    assert card["what"].startswith(f"Spark cannot read data.path {data.path}: [{reason}")


def gpu_spec(distribution: str, gpus: float, meeting: Path) -> TuningSpec:
    meeting.mkdir()
    tasks = round(2 / gpus)
    return TuningSpec(
        study_name="gpus",
        objective="sample_objectives:gpu_address",
        search_space={"meeting": ParamSpec("categorical", choices=(str(meeting),))},
        trials=tasks,
        tasks=tasks,
        distribution=distribution,  # type: ignore[arg-type]  # one of the literals
        coordination="database",
        resources=ResourceSpec(gpus_per_task=gpus),
    )


@pytest.mark.parametrize(("distribution", "gpus"), [("rdd", 1), ("rdd", 0.5), ("joblib", 0.5), ("dataframe", 0.5)])
def test_every_worker_gets_the_gpu_spark_gave_its_task(
    spark_cluster: SparkCluster, tmp_path: Path, url: str, distribution: str, gpus: float
) -> None:
    conf = {
        "spark.executor.resource.gpu.amount": "2",
        "spark.task.resource.gpu.amount": "1" if distribution == "joblib" else str(gpus),
        "spark.executor.cores": "4",
    }
    spec = gpu_spec(distribution, gpus, tmp_path / "meeting")
    done = submit(spark_cluster.master_url, tmp_path, ["--spec", spec.to_json()], conf, OPTUNA_STORAGE_URL=url)
    assert done.returncode == 0, done.stdout
    trials = study_at(url).get_trials(states=(TrialState.COMPLETE,))
    given = sorted(t.user_attrs["gpu"] for t in trials)
    assert given == sorted(["0", "1"] * round(1 / gpus))


def test_workers_take_part_as_dynamic_allocation_brings_executors(
    spark_cluster: SparkCluster, tmp_path: Path, url: str
) -> None:
    conf = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.executor.cores": "1",
    }
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    # No trial ends before three workers, each in an executor of its own, are there.
    spec = TuningSpec(
        study_name="elastic",
        objective="sample_objectives:gpu_address",
        search_space={"meeting": ParamSpec("categorical", choices=(str(meeting),))},
        trials=7,
        tasks=3,
        distribution="rdd",
    )
    done = submit(spark_cluster.master_url, tmp_path, ["--spec", spec.to_json()], conf, OPTUNA_STORAGE_URL=url)
    assert done.returncode == 0, done.stdout
    trials = study_at(url).get_trials(states=(TrialState.COMPLETE,))
    assert len(trials) == 7
    assert len({marks_of(t).worker for t in trials}) == 3


@pytest.mark.skipif(not WINE.exists(), reason="the wine table is not here: see the study wine_quality")
def test_a_gpu_that_is_asked_for_and_missing_is_an_error(spark_cluster: SparkCluster, tmp_path: Path, url: str) -> None:
    arguments = ["--filepath", str(WINE), "--trials", "2", "--gpus-per-task", "1", "--distribution", "rdd"]
    card, _ = submit_into_failure(spark_cluster, tmp_path, arguments, url)
    assert card["error"] == "DeviceError"
    assert not study_at(url).get_trials(states=(TrialState.COMPLETE,))


def test_a_table_that_is_missing_is_one_sentence_and_not_a_java_stack(
    spark_cluster: SparkCluster, tmp_path: Path, url: str
) -> None:
    arguments = ["--filepath", "/nowhere/table.csv", "--trials", "2"]
    card, output = submit_into_failure(spark_cluster, tmp_path, arguments, url)
    assert "at org.apache.spark" not in output
    assert card["error"] == "DataError"
    assert "/nowhere/table.csv" in card["what"]


def test_the_filepath_is_required_for_xgboost(tmp_path: Path, url: str, spark_cluster: SparkCluster) -> None:
    arguments = ["--objective", "xgboost"]
    done = submit(spark_cluster.master_url, tmp_path, arguments, OPTUNA_STORAGE_URL=url)
    assert done.returncode != 0, done.stdout
    assert "--filepath is required" in done.stdout


def test_a_job_killed_with_its_submitter_leaves_no_process(
    spark_cluster: SparkCluster, tmp_path: Path, url: str
) -> None:
    spec = TuningSpec("slow", objective="sample_objectives:slow_parabola", trials=10_000, coordination="database")
    command = submit_command(spark_cluster.master_url, tmp_path, ["--spec", spec.to_json()], {})
    # The shell stands for Airflow's task: it starts spark-submit as its child, and is killed the hard way.
    shell = subprocess.Popen(
        ["bash", "-c", '"$@"; true', "task", *command], env=submit_environment(OPTUNA_STORAGE_URL=url)
    )
    try:
        wait_until(lambda: Path(tmp_path / "study.sqlite3").exists() and trials_in(url) >= 1, "a trial")
        assert processes_naming(str(tmp_path))
    finally:
        os.kill(shell.pid, signal.SIGKILL)
        shell.wait(timeout=60)
    wait_until(lambda: not processes_naming(str(tmp_path)), "the job's processes to end")


def trials_in(url: str) -> int:
    try:
        return len(study_at(url).trials)
    except Exception:  # noqa: BLE001  # the tables appear while we look
        return 0
