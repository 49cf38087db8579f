"""Examples, and code of several files, on a real Spark cluster, submitted with what the pipeline ships."""

from __future__ import annotations

import os
import re
from pathlib import Path

import optuna
import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from tests.examples.conftest import EXAMPLES, submission_of
from tests.support.airflow import write_own_code
from tests.support.programs import run_program
from tests.support.servers import spark_environment
from tests.support.submit import SMALL, SUBMIT, submit_environment

pytestmark = pytest.mark.slow


def run_on(cluster: SparkCluster, name: str, folder: Path, studies: Path = EXAMPLES) -> optuna.Study:
    """The study of an example, or of another folder, run as its file says."""
    spec, made = submission_of(name, folder, studies)
    url = f"sqlite:///{folder}/study.sqlite3"
    conf = [part for key, value in (made.conf | SMALL).items() for part in ("--conf", f"{key}={value}")]
    command = [str(SUBMIT), "--master", cluster.master_url, *conf, "--py-files", made.py_files, made.application]
    run_program([*command, *made.application_args], env=submit_environment(OPTUNA_STORAGE_URL=url), together=True)
    return optuna.load_study(study_name=spec.study_name, storage=url)


def test_log_lines_are_in_the_stderr_of_the_executor(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    before = set(spark_cluster.state.rglob("stderr"))
    study = run_on(spark_cluster, "logs", tmp_path)
    written = "".join(file.read_text() for file in set(spark_cluster.state.rglob("stderr")) - before)
    lines = re.findall(r"INFO logs: trial (\d) tries x=", written)
    assert set(lines) == {str(trial.number) for trial in study.trials}, written


@pytest.mark.parametrize("distribution", ["joblib", "dataframe"])  # for rdd: tests/whole
def test_code_beside_the_study_file_travels_with_its_data(
    spark_cluster: SparkCluster, tmp_path: Path, distribution: str
) -> None:
    studies = tmp_path / "studies"
    write_own_code(studies)
    (studies / "table.csv").write_text("rooms,price\n1,11\n2,22\n")
    (studies / "churn.yaml").write_text(
        f"objective: churn:objective\ndata: {{path: table.csv, label: price}}\ndistribution: {distribution}\n"
        "trials: 4\ntasks: 2\nretries: 0\n"
    )
    trials = run_on(spark_cluster, "churn", tmp_path, studies).trials
    assert [(trial.state.name, trial.user_attrs["weights"]) for trial in trials] == [("COMPLETE", [3, 4])] * 4


def test_code_of_several_files_runs_without_spark_where_it_is_on_pythons_path(tmp_path: Path) -> None:
    write_own_code(tmp_path)
    path = f"{REPOSITORY / 'jobs'}{os.pathsep}{tmp_path}"
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    command: list[str | Path] = [spark_environment() / "bin" / "python", REPOSITORY / "jobs" / "tune.py"]
    command += ["--distribution", "local", "--objective", "churn:objective", "--trials", "3"]
    run_program(command, env={**os.environ, "PYTHONPATH": path, "OPTUNA_STORAGE_URL": url}, cwd=tmp_path, together=True)
    (name,) = optuna.get_all_study_names(url)
    trials = optuna.load_study(study_name=name, storage=url).trials
    assert [(trial.state.name, trial.user_attrs["weights"]) for trial in trials] == [("COMPLETE", [3, 4])] * 3
