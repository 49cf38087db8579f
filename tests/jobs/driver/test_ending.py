"""A run that is ended from outside by SIGTERM: what it leaves behind, and that it goes on with the right count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pymysql
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from init.local.guard import descendants
from init.local.mysql import MysqlServer
from init.local.processes import birth
from init.local.spark import SparkCluster
from optuna_spark.driver import ending
from optuna_spark.driver.ending import Ending
from optuna_spark.driver.run import tune
from optuna_spark.errors import RunEndedError
from optuna_spark.spec.run_keys import Coordination, Distribution
from optuna_spark.spec.tuning import TuningSpec
from tests.support.processes import children_naming
from tests.support.programs import outputs
from tests.support.submit import SAMPLES, TUNE, submit_command, submit_environment
from tests.support.waiting import wait_until

# Of two seconds: far more than a slow machine gets done before it is seen that the run is on its way. And long ones:
# a trial that is begun after the run has closed its own would be over before anybody looks.
TRIALS = 75


@pytest.fixture
def url(mysql_server: MysqlServer, tmp_path: Path) -> str:
    user, password = mysql_server.admin_user, mysql_server.admin_password
    name = tmp_path.name.replace("-", "_").replace("[", "_").replace("]", "_")[:60]
    with pymysql.connect(host=mysql_server.host, port=mysql_server.port, user=user, password=password) as connection:
        connection.cursor().execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    return sa.URL.create("mysql+pymysql", user, password, mysql_server.host, mysql_server.port, name).render_as_string(
        hide_password=False
    )


def spec_of(coordination: Coordination, distribution: Distribution) -> TuningSpec:
    return TuningSpec(
        "ended", objective="sample_objectives:parabola_of_two_seconds", trials=TRIALS, tasks=2,
        distribution=distribution, coordination=coordination, run_id="r",
    )  # fmt: skip


def trials(url: str, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
    try:
        study = optuna.load_study(study_name="ended", storage=url)
    except (KeyError, sa.exc.ProgrammingError):
        return []
    return study.get_trials(states=states or None)


@contextmanager
def running(cluster: SparkCluster, url: str, folder: Path, spec: TuningSpec) -> Iterator[subprocess.Popen[str]]:
    """The run by spark-submit, once it has finished some trials: its workers are in the middle of others."""
    (folder / "tmp").mkdir()
    (folder / "spec.json").write_text(spec.to_json())
    command = submit_command(cluster.master_url, folder, ["--spec-file", str(folder / "spec.json")], {})
    env = submit_environment(OPTUNA_STORAGE_URL=url, TMPDIR=str(folder / "tmp"), SPARK_LOCAL_DIRS=str(folder / "tmp"))
    job = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: len(trials(url, TrialState.COMPLETE)) >= 3 or job.poll() is not None, "three trials")
        assert job.poll() is None, outputs(job.communicate()[0])
        yield job
    finally:
        job.kill()
        job.wait()


def python_below(job: subprocess.Popen[str]) -> list[int]:
    return children_naming(job.pid, "tune.py")


def everything_below(job: subprocess.Popen[str]) -> list[int]:
    return [job.pid, *descendants(job.pid)]


def lives(pid: int, born: str | None) -> bool:
    return born is not None and birth(pid) == born


@pytest.mark.slow
@pytest.mark.parametrize("coordination", ["driver", "database"])
@pytest.mark.parametrize("who", [python_below, everything_below])
def test_a_run_ended_by_sigterm_leaves_nothing_running_and_goes_on_with_its_count(
    who: Callable[[subprocess.Popen[str]], list[int]], coordination: Coordination, url: str,
    spark_cluster: SparkCluster, tmp_path: Path,
) -> None:  # fmt: skip
    spec = spec_of(coordination, "rdd")
    with running(spark_cluster, url, tmp_path, spec) as job:
        processes = who(job)
        assert processes
        births = [birth(pid) for pid in processes]
        for pid in processes:
            os.kill(pid, signal.SIGTERM)
        output = job.communicate(timeout=120)[0]
        assert job.returncode != 0, output
    # Java may end first, and the output with it, while Python still closes the workers' trials.
    wait_until(lambda: not any(map(lives, processes, births)), "the driver's processes to end")
    assert trials(url, TrialState.RUNNING) == [], output
    assert [path.name for path in (tmp_path / "tmp").iterdir() if not path.name.startswith("hsperfdata")] == [], output
    assert "RunEndedError" in output or who is everything_below  # whose Java may not pass on its last words
    finished = len(trials(url, TrialState.COMPLETE))
    assert 3 <= finished < TRIALS
    tune(spec.with_changes(objective="sample_objectives:parabola", distribution="local"), url)
    assert len(trials(url, TrialState.COMPLETE)) == TRIALS
    assert trials(url, TrialState.RUNNING) == []


JOBS = os.environ | {"PYTHONPATH": os.pathsep.join([str(TUNE.parent), str(SAMPLES.parent)])}


def started(program: str) -> subprocess.Popen[str]:
    """The program, once it has said that it is ready."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", program], env=JOBS, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


PROGRAM = """
import sys, time
from optuna_spark.driver.ending import ENDING, END_S
from optuna_spark.entry.run_spec import exit_with_card

def work():
    print("ready", flush=True)
    time.sleep(60)

ENDING.on_sigterm()
exit_with_card(work)
"""


def test_the_first_sigterm_ends_a_program_with_one_sentence() -> None:
    program = started(PROGRAM)
    program.terminate()
    assert "RunEndedError: the run was ended from outside (SIGTERM)" in program.communicate(timeout=60)[1]
    assert program.returncode == 1


HANGING = """
import time
from optuna_spark.driver import ending

ending.END_S = 0.5
ending.ENDING.on_sigterm()
while True:
    try:
        print("ready", flush=True)
        time.sleep(60)
    except ending.RunEndedError:
        print("asked", flush=True)
"""


def test_a_program_that_does_not_end_is_ended_hard_within_the_limit() -> None:
    program = started(HANGING)
    program.terminate()
    assert program.stdout is not None
    assert program.stdout.readline() == "asked\n"
    assert program.wait(timeout=60) == ending.EXIT_CODE


@pytest.fixture
def own_handler() -> Iterator[Ending]:
    before = signal.getsignal(signal.SIGTERM)
    end = Ending()
    end.on_sigterm()
    yield end
    signal.signal(signal.SIGTERM, before)


def ends_itself(end: Ending) -> None:
    with end.during_a_run():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_sigterm_is_a_programs_own_again_once_its_run_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "END_S", 3600.0)
    end, before = Ending(), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(RunEndedError):
            ends_itself(end)
        assert not end.asked
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        wait_until(lambda: not any(isinstance(t, threading.Timer) for t in threading.enumerate()), "the timer to end")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with end.during_a_run():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_run_does_to_end_is_not_interrupted(own_handler: Ending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "END_S", 3600.0)  # this process goes on
    with own_handler.tidying():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
    assert own_handler.asked
    os.kill(os.getpid(), signal.SIGTERM)  # one of many that come together
    time.sleep(0.01)


# Somebody's own program, which does not handle SIGTERM.
OWN_PROGRAM = """
import sys
from pathlib import Path
from optuna_spark.driver.run import tune
from optuna_spark.errors import RunEndedError
from optuna_spark.spec.tuning import TuningSpec

if __name__ == "__main__":
    tune(TuningSpec.from_json(Path(sys.argv[2]).read_text()), sys.argv[4])
"""


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("coordination", ["driver", "database"])
def test_a_run_without_spark_is_ended_too(coordination: Coordination, own: bool, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"
    spec = spec_of(coordination, "local").with_changes(trials=100)
    (tmp_path / "spec.json").write_text(spec.to_json())
    (tmp_path / "own.py").write_text(OWN_PROGRAM)
    program = tmp_path / "own.py" if own else TUNE
    job = subprocess.Popen(
        [sys.executable, program, "--spec-file", tmp_path / "spec.json", "--storage", storage],
        env=JOBS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: len(trials(storage, TrialState.COMPLETE)) >= 2 or job.poll() is not None, "two trials")
        job.terminate()
        output = job.communicate(timeout=120)[0]
    finally:
        job.kill()
    assert "RunEndedError: the run was ended from outside (SIGTERM)" in output
    assert trials(storage, TrialState.RUNNING) == []
