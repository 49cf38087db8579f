"""init/spark/bin/spark-submit: what a job gets of Airflow's environment, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from init.local import scratch
from init.local.layout import REPOSITORY
from init.local.processes import birth
from tests.support.programs import run_program
from tests.support.waiting import wait_until
from tuning_pipeline.targets.standalone import submission

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
    given = {"TUNING_OUT": str(tmp_path), "TUNING_SPARK_ENVIRONMENT": "TUNING_OUT"}
    return given | {
        "PATH": os.environ["PATH"],
        "TUNING_SPARK_ENV": str(tmp_path / "env"),
        "TUNING_STATE": str(tmp_path),
    }


def given(env: dict[str, str], *arguments: str) -> dict[str, str]:
    run_program([WRAPPER, *arguments], env=env)
    entries = Path(env["TUNING_OUT"], "given").read_text().rstrip("\0").split("\0")
    return dict(entry.split("=", 1) for entry in entries)


# None of them is a name that Spark or the job reads; some are no names to a shell.
STRANGE = {
    "AIRFLOW_CONN_X": "{}", "AIRFLOW_HOME": "/x", "PYTHONPATH": "/y", "_AIRFLOW__AS_LIBRARY": "1",
    "TUNING_DB_ADMIN_PASSWORD": "p", "MY_TOKEN": "t", "a.dotted-name": "d", "BASH_FUNC_f%%": "() { echo f; }",
    "JAVA_TOOL_OPTIONS": "-Dx=y", "with newline": "1\nPATH=/nowhere",
}  # fmt: skip


@pytest.mark.attack("a shared machine", "a password of the shell in the job's environment", times=len(STRANGE))
def test_the_job_gets_no_variable_that_is_not_listed(stand_in: dict[str, str]) -> None:
    seen = given(stand_in | STRANGE | {"OPTUNA_STORAGE_URL": "kept", "TUNING_FAILURE_FILE": "kept", "LC_TIME": "C"})
    assert not set(STRANGE) & set(seen)
    assert (seen["OPTUNA_STORAGE_URL"], seen["TUNING_FAILURE_FILE"], seen["LC_TIME"]) == ("kept", "kept", "C")
    assert seen["PATH"] == stand_in["PATH"]


def test_variables_of_ones_own_are_named_in_one(stand_in: dict[str, str]) -> None:
    own = {"AWS_PROFILE": "a", "HF_HOME": "b", "HF_TOKEN": "c", "OTHER": "d"}
    seen = given(stand_in | own | {"TUNING_SPARK_ENVIRONMENT": "TUNING_OUT, AWS_PROFILE HF_*"})
    assert {name: seen.get(name) for name in own} == own | {"OTHER": None}


def test_the_secret_of_a_cluster_becomes_a_closed_configuration(stand_in: dict[str, str], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef" * 4 + "\n")
    seen = given(stand_in | {"TUNING_SPARK_SECRET_FILE": str(secret)})
    conf = Path(seen["SPARK_CONF_DIR"])
    assert conf.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in conf.iterdir()} == {0o600}
    assert (conf / "log4j2.properties").exists()
    lines = [line.split() for line in (conf / "spark-defaults.conf").read_text().splitlines()]
    assert ["spark.authenticate.secret", "0123456789abcdef" * 4] in lines
    assert "0123456789abcdef" not in Path(stand_in["TUNING_OUT"], "args").read_text()
    assert not [name for name, value in seen.items() if "0123456789abcdef" in value]


HALF = "0123456789abcdef"


@pytest.mark.parametrize("content", ["", "short", f"{HALF}{HALF}\nspark.x y", f"{HALF}{HALF} #"])
def test_a_weak_or_broken_secret_is_refused_without_its_content(
    stand_in: dict[str, str], tmp_path: Path, content: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(content)
    env = stand_in | {"TUNING_SPARK_SECRET_FILE": str(secret)}
    done = subprocess.run([WRAPPER], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"make-conf.sh: {secret} must hold one line of 32 or more letters, digits and")
    assert HALF not in done.stderr
    assert not Path(stand_in["TUNING_OUT"], "given").exists()


def test_driver_and_workers_use_the_spark_environments_python(stand_in: dict[str, str]) -> None:
    seen = given(stand_in)
    assert seen["PYSPARK_PYTHON"] == seen["PYSPARK_DRIVER_PYTHON"] == stand_in["TUNING_SPARK_ENV"] + "/bin/python"
    assert Path(seen["SPARK_CONF_DIR"], "log4j2.properties").exists()


def test_what_the_caller_chose_is_kept(stand_in: dict[str, str]) -> None:
    seen = given(stand_in | {"PYSPARK_PYTHON": "./environment/bin/python", "SPARK_CONF_DIR": "/etc/spark"})
    assert (seen["PYSPARK_PYTHON"], seen["SPARK_CONF_DIR"]) == ("./environment/bin/python", "/etc/spark")


def test_temporary_files_are_in_the_state_folder_also_those_of_java(stand_in: dict[str, str], tmp_path: Path) -> None:
    short = tmp_path / "s"
    if len(str(short)) > 70:
        pytest.skip("this machine's temporary folder is too deep")
    seen = given({**stand_in, "TUNING_STATE": str(short)})
    assert seen["TMPDIR"] == f"{short}/tmp"
    assert (short / "tmp").stat().st_mode & 0o777 == 0o700
    assert seen["SPARK_SUBMIT_OPTS"].strip() == f'"-Djava.io.tmpdir={short}/tmp"'
    own = given(stand_in | {"TMPDIR": "/my tmp", "SPARK_SUBMIT_OPTS": "-Xmx1g"})
    assert (own["TMPDIR"], own["SPARK_SUBMIT_OPTS"]) == ("/my tmp", '-Xmx1g "-Djava.io.tmpdir=/my tmp"')


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


def test_one_limit_holds_for_the_folders_of_temporary_files() -> None:
    told = run_program(["bash", "-c", f". {WRAPPER.parents[1]}/environment.sh; echo $LONGEST_TMPDIR"]).stdout
    assert int(told) == scratch.LONGEST_TMPDIR == submission.LONGEST_TMPDIR
