"""The edges of `make run`: refused requests, the shown result, connections, secrets."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from init.local import airflow, passwords, run
from init.local.errors import SetupError
from init.local.layout import REPOSITORY, Layout
from init.local.machine import Apt, Need, how_to_install, needs_of_runs, needs_of_tests, provide
from init.local.mysql import MysqlServer
from tests.support.programs import run_program

REQUIREMENTS = REPOSITORY / "requirements"


@pytest.fixture
def checkout(tmp_path: Path) -> Layout:
    studies = tmp_path / "dags" / "studies"
    studies.mkdir(parents=True)
    (studies / "diabetes.yaml").touch()
    return Layout(tmp_path)


@pytest.mark.parametrize(
    ("study", "trials", "message"),
    [
        ("wine", "", r"STUDY must be one of .*\(diabetes\), got 'wine'"),
        ("../diabetes", "", "STUDY must be one of"),
        ("diabetes", "0", "TRIALS must be a whole number of at least 1, got '0'"),
        ("diabetes", "-1", "got '-1'"),
        ("diabetes", "ten", "got 'ten'"),
        ("diabetes", "1.5", "got '1.5'"),
    ],
)
def test_a_request_that_cannot_work_is_refused_at_once(checkout: Layout, study: str, trials: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        run.check_request(checkout, study, trials)


def test_a_study_file_may_end_in_yml_and_two_of_one_name_are_refused(checkout: Layout) -> None:
    studies = checkout.root / "dags" / "studies"
    (studies / "wine.yml").touch()
    run.check_request(checkout, "wine", "")
    assert run.study_file(checkout, "wine") == studies / "wine.yml"
    (studies / "wine.yaml").touch()
    with pytest.raises(SetupError, match=r"wine.yaml and wine.yml, which would both be DAG tune_wine: rename one of"):
        run.check_request(checkout, "wine", "")
    run.check_request(checkout, "diabetes", "")


@pytest.mark.parametrize("character", ["%", "$", "?", ":", "\n"])
def test_a_checkout_whose_path_would_be_read_as_something_else_is_refused(tmp_path: Path, character: str) -> None:
    root = tmp_path / f"a{character}b"
    root.mkdir()
    with pytest.raises(SetupError, match=r"^the path of this checkout must not hold .* move it to another folder$"):
        Layout(root).prepare()
    assert not list(root.iterdir())
    (tmp_path / "a b").mkdir()
    Layout(tmp_path / "a b").prepare()


def test_another_python_for_spark_in_the_shell_does_not_reach_a_run(
    checkout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_HOME"):
        monkeypatch.setenv(name, "/usr/bin/python3.9")
    assert "/usr/bin/python3.9" not in airflow.environment(checkout, {}, None).values()


def test_the_result_names_value_parameters_and_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = {"study": "other", "value": 54.5, "values": [54.5], "params": {"max_depth": 3, "eta": 0.1}, "trial": 17}
    (tmp_path / "best_params.json").write_text(json.dumps(best))
    run.show_result(str(tmp_path))
    shown = capsys.readouterr().out
    assert "best value 54.5, trial 17" in shown
    assert "max_depth = 3" in shown
    assert str(tmp_path) in shown


def test_a_pareto_front_shows_all_values() -> None:
    assert run.headline({"value": 1.0, "values": [1.0, 2.0], "trial": 3}) == "best value [1.0, 2.0], trial 3"


@pytest.mark.parametrize(
    ("exported", "line"),
    [
        ("s3://bucket/exports/s/r", "done; the exports are in s3://bucket/exports/s/r"),
        (None, "done; this run exported nothing"),
    ],
)
def test_a_result_that_cannot_be_read_here_is_no_crash(
    exported: str | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run.show_result(exported)
    assert line in capsys.readouterr().out


def test_secrets_are_generated_once_and_closed_to_others(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    first = passwords.load_or_create(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert passwords.load_or_create(file) == first
    assert len(set(first.values())) == 3


def test_airflow_gets_three_connections_with_mysql(checkout: Layout, mysql_server: MysqlServer) -> None:
    secrets = passwords.load_or_create(checkout.root / "secrets.env")
    found = airflow.connections(checkout, mysql_server, 7077, secrets)
    assert json.loads(found["AIRFLOW_CONN_TUNING_SPARK"])["port"] == 7077
    tuning = json.loads(found["AIRFLOW_CONN_TUNING_DB"])
    assert (tuning["schema"], tuning["extra"]["client"]) == ("optuna", "pymysql")
    assert json.loads(found["AIRFLOW_CONN_TUNING_DB_ADMIN"])["login"] == mysql_server.admin_user


def test_airflow_gets_sqlite_where_there_is_no_mysql(checkout: Layout) -> None:
    secrets = passwords.load_or_create(checkout.root / "secrets.env")
    found = airflow.connections(checkout, None, 7077, secrets)
    assert json.loads(found["AIRFLOW_CONN_TUNING_DB"])["host"].endswith("/.state/optuna.sqlite3")
    assert "AIRFLOW_CONN_TUNING_DB_ADMIN" not in found


def test_one_message_names_everything_to_install() -> None:
    missing = [
        Need("Java 17 or later", bool, (("openjdk-17-jre-headless",),)),
        Need("a MySQL server", bool, (("mariadb-server-core",),)),
    ]
    message = how_to_install(missing, "there is no apt here")
    assert "lacks Java 17 or later, a MySQL server" in message
    assert "openjdk-17-jre-headless mariadb-server-core" in message


def pretend_missing(monkeypatch: pytest.MonkeyPatch, *, java: bool, mysql: bool) -> None:
    monkeypatch.setattr("init.local.machine.java_home", lambda: None if java else "/usr")
    monkeypatch.setattr("init.local.mysql.is_installed", lambda: not mysql)
    monkeypatch.setattr(Apt, "usable", staticmethod(lambda _: None))


def test_without_apt_a_missing_java_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_missing(monkeypatch, java=True, mysql=True)
    with pytest.raises(SetupError, match=r"lacks Java 17 or later, a MySQL server"):
        provide(tmp_path / "apt.log", needs_of_runs())


def test_without_apt_a_missing_mysql_server_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_missing(monkeypatch, java=False, mysql=True)
    assert provide(tmp_path / "apt.log", needs_of_runs()) is False


def test_what_tests_need_is_one_message_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_missing(monkeypatch, java=True, mysql=True)
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError) as refused:
        provide(tmp_path / "apt.log", needs_of_tests())
    first, line = str(refused.value).splitlines()
    assert first == (
        "this machine lacks Java 17 or later, a MySQL server, a MySQL client, Chromium and its driver, git, and this "
        "is not root and sudo cannot be used. Install what is missing, then run the same command again; on Debian and "
        "Ubuntu:"
    )
    assert line.split() == [
        "sudo", "apt-get", "install", "--no-install-recommends", "openjdk-17-jre-headless", "mariadb-server-core",
        "mariadb-client-core", "chromium", "chromium-driver", "git",
    ]  # fmt: skip


def test_packages_to_install_are_ones_that_this_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Debian 13, which has no Java 17."""
    program = tmp_path / "apt-cache"
    program.write_text("""#!/bin/sh
shift
for name; do
    case $name in *-17-*) found="(none)" ;; *) found=21.0.13 ;; esac
    printf '%s:\\n  Installed: (none)\\n  Candidate: %s\\n' "$name" "$found"
done
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    java = Need("Java 17 or later", bool, (("openjdk-17-jre-headless",), ("openjdk-21-jre-headless",)))
    assert how_to_install([java], "there is no apt here").endswith(" openjdk-21-jre-headless")


@pytest.mark.parametrize(
    ("version", "sentence"),
    [((3, 10, 1), "Python 3.11 or later is needed"), ((3, 15, 0), "Python 3.14 or earlier is needed")],
)
def test_a_python_that_has_no_locked_packages_is_refused_in_one_sentence(version: object, sentence: str) -> None:
    code = f"""
import runpy, sys
sys.version_info, sys.argv = {version}, ["init.local"]
runpy.run_module("init.local", run_name="__main__")
"""
    done = run_program([sys.executable, "-c", code], cwd=REPOSITORY, code=1)
    assert done.stderr.startswith(f"error: {sentence}, this is ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("lock", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_holds_hashes_and_no_index_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    pins = [line for line in text.splitlines() if "==" in line and not line.lstrip().startswith("#")]
    assert pins
    assert all(line.endswith("\\") for line in pins)


@pytest.mark.parametrize("unwanted", ["mysqlclient", "mysql-connector-python", "pyspark-client"])
def test_the_airflow_lock_leaves_out_what_cannot_be_installed_everywhere(unwanted: str) -> None:
    assert not any(line.startswith(unwanted + "==") for line in (REQUIREMENTS / "airflow.txt").read_text().splitlines())


def test_make_help_names_every_target_in_one_line() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = next(line for line in makefile.splitlines() if line.startswith(".PHONY:")).split()[1:]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    shown = run_program(["make", "help"], cwd=REPOSITORY, env=env).stdout
    assert sorted(line.split()[1] for line in shown.splitlines()) == sorted(targets)
