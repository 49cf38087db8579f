"""Examples on a real Spark cluster, submitted with what the pipeline ships. For one of several files: tests/whole."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pytest

from init.local.spark import SparkCluster
from tests.examples.conftest import submission_of
from tests.support.programs import run_program
from tests.support.submit import SMALL, SUBMIT, submit_environment

pytestmark = pytest.mark.slow


def run_on(cluster: SparkCluster, name: str, folder: Path) -> optuna.Study:
    """The example's study, run as its file says."""
    spec, made = submission_of(name, folder)
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
