"""init/spark/bin/spark-submit: what a job gets of Airflow's environment, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from init.local.processes import birth
from tests.support.programs import run_program
from tests.support.waiting import wait_until

WRAPPER = REPOSITORY / "init" / "spark" / "bin" / "spark-submit"


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """An environment whose spark-submit only writes down what it was given."""
    spark = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "pyspark" / "bin"
    spark.mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    for script, text in {
        spark / "spark-submit": 'env -0 > "$TUNING_OUT/given"; printf "%s\\n" "$@" > "$TUNING_OUT/args"\n',
        tmp_path / "env" / "bin" / "python": "exit 0\n",
    }.items():
        script.write_text("#!/bin/sh\n" + text)
        script.chmod(0o755)
    return {"PATH": os.environ["PATH"], "TUNING_SPARK_ENV": str(tmp_path / "env"), "TUNING_OUT": str(tmp_path)}


def given(env: dict[str, str], *arguments: str) -> dict[str, str]:
    run_program([WRAPPER, *arguments], env=env)
    entries = Path(env["TUNING_OUT"], "given").read_text().rstrip("\0").split("\0")
    return dict(entry.split("=", 1) for entry in entries)


def test_airflows_environment_does_not_reach_the_job(stand_in: dict[str, str]) -> None:
    airflow = {"AIRFLOW_CONN_X": "secret", "AIRFLOW_HOME": "/x", "PYTHONPATH": "/y", "_AIRFLOW__AS_LIBRARY": "1"}
    seen = given(stand_in | airflow | {"OPTUNA_STORAGE": "kept", "TUNING_X": "kept"})
    assert not set(airflow) & set(seen)
    assert (seen["OPTUNA_STORAGE"], seen["TUNING_X"]) == ("kept", "kept")


def test_driver_and_workers_use_the_spark_environments_python(stand_in: dict[str, str]) -> None:
    seen = given(stand_in)
    assert seen["PYSPARK_PYTHON"] == seen["PYSPARK_DRIVER_PYTHON"] == stand_in["TUNING_SPARK_ENV"] + "/bin/python"
    assert Path(seen["SPARK_CONF_DIR"], "log4j2.properties").exists()


def test_what_the_caller_chose_is_kept(stand_in: dict[str, str]) -> None:
    seen = given(stand_in | {"PYSPARK_PYTHON": "./environment/bin/python", "SPARK_CONF_DIR": "/etc/spark"})
    assert (seen["PYSPARK_PYTHON"], seen["SPARK_CONF_DIR"]) == ("./environment/bin/python", "/etc/spark")


def test_arguments_arrive_unchanged_after_the_drivers_python(stand_in: dict[str, str]) -> None:
    given(stand_in, "--conf", "a=b c", "job.py", "")
    python = f"spark.pyspark.driver.python={stand_in['TUNING_SPARK_ENV']}/bin/python"
    assert Path(stand_in["TUNING_OUT"], "args").read_text() == f"--conf\n{python}\n--conf\na=b c\njob.py\n\n"


def test_a_missing_environment_is_one_clear_sentence(tmp_path: Path) -> None:
    done = run_program([WRAPPER], env=os.environ | {"TUNING_SPARK_ENV": str(tmp_path)}, code=1)
    assert (
        done.stderr == f"spark-submit: no Spark environment in {tmp_path}: run 'make setup', or set TUNING_SPARK_ENV\n"
    )


def test_the_job_ends_when_its_submitter_is_killed(stand_in: dict[str, str], tmp_path: Path) -> None:
    script = next((tmp_path / "env").glob("lib/*/site-packages/pyspark/bin/spark-submit"))
    script.write_text(
        '#!/bin/sh\necho $$ > "$TUNING_OUT/pid.new"; mv "$TUNING_OUT/pid.new" "$TUNING_OUT/pid"\nexec sleep 60\n'
    )
    submitter = subprocess.Popen(
        ["python3", "-c", f"import subprocess; subprocess.run([{str(WRAPPER)!r}])"], env=stand_in
    )
    pid_file = tmp_path / "pid"
    wait_until(pid_file.exists, "the job to start")
    job = int(pid_file.read_text())
    submitter.send_signal(signal.SIGKILL)
    submitter.wait(timeout=60)
    wait_until(lambda: birth(job) is None, "the job to end", 30)
