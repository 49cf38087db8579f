"""The private servers of a checkout: found again, recovered, stopped; and nobody else's process is ever touched."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from init.local.accounts import candidates
from init.local.console import run_step
from init.local.errors import SetupError
from init.local.guard import descendants
from init.local.mysql import PROGRAM_VARIABLE, MysqlServer, Program, find_program, is_installed
from init.local.ports import LOOPBACK, free_ports, same_ports
from init.local.processes import Service, birth, one_at_a_time, tied_to_parent
from init.local.spark import SparkCluster
from tests.support.processes import is_readable_as, listening_addresses, zombie_with_a_living_thread
from tests.support.servers import HARD_PASSWORD, private_mysql, private_spark, scratch_folder
from tests.support.waiting import wait_until

needs_mysql = pytest.mark.skipif(not is_installed(), reason="no MySQL server is installed here")


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


def sleeper(folder: Path) -> Service:
    service = Service("sleeper", folder)
    service.start(["sleep", "60"], dict(os.environ), {"port": 7})
    return service


def log_in(server: MysqlServer, password: str = HARD_PASSWORD) -> None:
    pymysql.connect(host=server.host, port=server.port, user=server.admin_user, password=password).close()


def test_a_server_program_that_is_named_is_the_one_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "my server"
    program.write_text("#!/bin/sh\necho mysqld Ver 9.7.4 for Linux\n")
    program.chmod(0o755)
    monkeypatch.setenv(PROGRAM_VARIABLE, str(program))
    assert find_program() == Program(str(program), is_mariadb=False)
    monkeypatch.setenv(PROGRAM_VARIABLE, str(folder / "none"))
    assert not is_installed()


def test_a_service_is_found_again_by_its_pid_file(folder: Path) -> None:
    service = sleeper(folder)
    again = Service("sleeper", folder)
    assert again.running()
    assert again.facts() == {"port": 7}
    assert again.stop()
    assert not service.running()


def test_free_ports_are_not_those_that_any_program_may_get(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernels_range = tmp_path / "range"
    monkeypatch.setattr("init.local.ports.KERNELS_RANGE", kernels_range)
    kernels_range.write_text("20003\t60999\n")
    (port,) = free_ports(1)
    assert port in (20_000, 20_001, 20_002)
    with socket.create_server((LOOPBACK, port)):
        others = free_ports(3)
    assert port not in others
    assert len(set(others)) == 3
    assert max(others) > 20_002  # there are two below at most, and then the kernel chooses


def test_stopping_what_does_not_run_is_fine(folder: Path) -> None:
    assert not Service("nothing", folder).stop()


def test_a_stranger_with_the_recorded_pid_is_not_touched(folder: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        service = Service("sleeper", folder)
        service.adopt(stranger.pid, {})
        record = json.loads(service.pid_file.read_text())
        service.pid_file.write_text(json.dumps(record | {"birth": "another-boot:1"}))
        assert not service.running()
        assert not service.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(timeout=60)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 999999999, "birth": "x:1"}'])
def test_a_damaged_or_stale_pid_file_means_not_running(folder: Path, content: str) -> None:
    service = Service("sleeper", folder)
    service.pid_file.parent.mkdir()
    service.pid_file.write_text(content)
    assert not service.running()
    assert not service.stop()


def test_a_service_that_ignores_the_first_signal_is_killed(folder: Path) -> None:
    service = Service("stubborn", folder)
    service.start(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], dict(os.environ), {})
    time.sleep(0.3)
    assert service.stop(grace_s=0.5)
    assert not service.running()


def test_a_process_lives_until_its_last_thread_has_ended(folder: Path) -> None:
    with zombie_with_a_living_thread() as process:
        assert process.pid in descendants(os.getpid())
        service = Service("zombie", folder)
        service.adopt(process.pid, {})
        assert service.stop()
        assert birth(process.pid) is None
        assert process.pid not in descendants(os.getpid())


def test_a_tied_process_ends_with_its_parent(tmp_path: Path) -> None:
    child = tmp_path / "child.pid"
    command = tied_to_parent(["sh", "-c", f"echo $$ > {child}; sleep 60"])
    parent = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"])
    wait_until(lambda: child.exists() and child.read_text().strip(), "the child to start")
    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=60)
    wait_until(lambda: birth(int(child.read_text())) is None, "the child to end", 30)


def test_two_runs_in_one_checkout_wait_for_each_other(folder: Path) -> None:
    lock = folder / "lock"
    code = f"""
import sys; sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from init.local.processes import one_at_a_time
with one_at_a_time(Path({str(lock)!r})): pass
"""
    with one_at_a_time(lock):
        other = subprocess.Popen([sys.executable, "-c", code])
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=1)
    assert other.wait(timeout=60) == 0


def test_a_run_that_waits_for_another_says_so_and_has_a_limit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = folder / "lock"
    refusal = rf"another make in this checkout still holds {lock} after 0.3 s"
    with one_at_a_time(lock), pytest.raises(SetupError, match=refusal), one_at_a_time(lock, seconds=0.3):
        pytest.fail("both hold it")
    assert capsys.readouterr().out.count("waiting for another make in this checkout") == 1


def test_a_step_that_does_not_end_is_ended_with_its_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("init.local.console.STEP_S", 1.0)
    with pytest.raises(SetupError, match=r"(?s)waiting for nothing did not end within 1 s.*the last words"):
        run_step("waiting for nothing", ["sh", "-c", "echo the last words; exec sleep 60"], log=folder / "log")


@needs_mysql
def test_mysql_takes_a_password_of_any_characters(mysql_server: MysqlServer) -> None:
    log_in(mysql_server)


@needs_mysql
def test_mysql_listens_on_loopback_only_and_not_as_root(mysql_server: MysqlServer) -> None:
    pid = mysql_server.service.pid
    assert listening_addresses(pid) == {LOOPBACK}
    assert Path(f"/proc/{pid}").stat().st_uid != 0


@needs_mysql
def test_mysql_password_is_in_no_argument_and_in_no_file_left_behind(mysql_server: MysqlServer) -> None:
    arguments = Path(f"/proc/{mysql_server.service.pid}/cmdline").read_text()
    assert HARD_PASSWORD not in arguments
    assert not (mysql_server.datadir.parent / "init.sql").exists()


@needs_mysql
def test_mysql_lets_nobody_in_without_a_password(mysql_server: MysqlServer) -> None:
    for user in ("root", mysql_server.admin_user, ""):
        with pytest.raises(pymysql.err.OperationalError):
            pymysql.connect(host=mysql_server.host, port=mysql_server.port, user=user)


@needs_mysql
def test_mysql_is_found_again_and_comes_back_after_kill_9(folder: Path) -> None:
    server = MysqlServer(folder, HARD_PASSWORD, die_with_parent=True)
    assert server.ensure()
    try:
        assert not server.ensure()
        os.kill(server.service.pid, signal.SIGKILL)
        assert server.ensure()
        log_in(server)
    finally:
        server.stop()


@needs_mysql
def test_mysql_comes_back_at_its_port_although_a_start_failed_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MysqlServer(folder, HARD_PASSWORD, die_with_parent=True)
    assert server.ensure()
    try:
        port = server.port
        os.kill(server.service.pid, signal.SIGKILL)
        broken = folder / "broken"
        broken.write_text('#!/bin/sh\n[ "$2" = --version ] && echo mysqld Ver 9.7.4 for Linux || exit 1\n')
        broken.chmod(0o755)
        folder.chmod(0o711)
        with monkeypatch.context() as patch:
            patch.setenv(PROGRAM_VARIABLE, str(broken))
            with pytest.raises(SetupError, match="ended at its start"):
                server.ensure()
        assert server.ensure()
        assert server.port == port
    finally:
        server.stop()


def test_a_port_that_is_still_held_for_a_moment_is_waited_for() -> None:
    (port,) = free_ports(1)
    holder = socket.create_server((LOOPBACK, port))
    release = threading.Timer(0.5, holder.close)
    release.start()
    assert same_ports(port) == [port]
    release.join()


@needs_mysql
def test_mysql_restarts_with_a_new_admin_password(folder: Path) -> None:
    MysqlServer(folder, "first", die_with_parent=True).ensure()
    server = MysqlServer(folder, "second", die_with_parent=True)
    try:
        assert server.ensure()
        log_in(server, "second")
    finally:
        server.stop()


@needs_mysql
def test_a_half_made_data_directory_is_made_anew(folder: Path) -> None:
    half = folder / "mysql" / "data.new"
    half.mkdir(parents=True)
    (half / "ibdata1").write_text("interrupted here")
    server = MysqlServer(folder, HARD_PASSWORD, die_with_parent=True)
    try:
        assert server.ensure()
        log_in(server)
    finally:
        server.stop()


@needs_mysql
def test_a_port_taken_in_the_last_moment_is_not_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with private_mysql() as other:
        offers = iter([[other.port], free_ports(1)])
        monkeypatch.setattr("init.local.mysql.same_ports", lambda _: next(offers))
        server = MysqlServer(folder, "mine", die_with_parent=True)
        try:
            assert server.ensure()
            assert server.port != other.port
            log_in(server, "mine")
        finally:
            server.stop()
        log_in(other)


@needs_mysql
def test_mysql_starts_in_a_folder_with_a_long_name(folder: Path) -> None:
    deep = folder / ("d" * 120)
    deep.mkdir()
    for path in (folder, deep):
        path.chmod(0o711)
    server = MysqlServer(deep, HARD_PASSWORD, die_with_parent=True)
    try:
        assert server.ensure()
    finally:
        server.stop()


def temporary_tables(server: MysqlServer) -> list[str]:
    """The files of temporary tables where this server keeps its own."""
    return sorted(file.name for file in Path(variable(server, "tmpdir")).glob("#sql*"))


def variable(server: MysqlServer, name: str) -> str:
    with as_admin(server) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT @@{name}")
        (row,) = cursor.fetchall()
    return str(row[0])


def as_admin(server: MysqlServer) -> pymysql.Connection[Any]:
    return pymysql.Connection(
        host=server.host, port=server.port, user=server.admin_user, password=server.admin_password
    )


@needs_mysql
@pytest.mark.attack("a shared machine", "temporary tables of a MySQL server removed by the start of another")
def test_a_second_mysql_server_leaves_the_first_ones_temporary_tables_alone() -> None:
    with private_mysql() as first, as_admin(first) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE d")
        cursor.execute("CREATE TEMPORARY TABLE d.t (x INT) ENGINE=MyISAM")
        cursor.execute("INSERT INTO d.t VALUES (7)")
        before = temporary_tables(first)
        assert before
        with private_mysql() as second:
            assert temporary_tables(first) == before
            assert variable(second, "tmpdir") != variable(first, "tmpdir")
        cursor.execute("SELECT * FROM d.t")
        assert cursor.fetchall() == ((7,),)
        cursor.execute("DROP TEMPORARY TABLE d.t")
        cursor.execute("SHOW WARNINGS")
        assert cursor.fetchall() == ()


@needs_mysql
@pytest.mark.attack("a shared machine", "a password of the shell in the MySQL server's environment")
def test_mysql_sees_five_variables_of_the_shell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "t")
    server = MysqlServer(folder, HARD_PASSWORD, die_with_parent=True)
    server.ensure()
    try:
        entries = Path(f"/proc/{server.service.pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
        assert {entry.split(b"=")[0] for entry in entries} == {b"PATH", b"HOME", b"LANG", b"TZ", b"TMPDIR"}
    finally:
        server.stop()


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")


@needs_mysql
@only_root
@pytest.mark.attack("a shared machine", "another account reads the MySQL server's files", times=8)
def test_each_mysql_server_of_roots_has_an_account_of_its_own(mysql_server: MysqlServer) -> None:
    with private_mysql() as other:
        owners = [Path(f"/proc/{server.service.pid}").stat().st_uid for server in (mysql_server, other)]
        assert len({*owners, 0, 65534}) == 4
        for number in owners:
            with pytest.raises(KeyError):
                pwd.getpwuid(number)
        files = [other.datadir.parent, other.datadir, other.scratch, other.datadir / "server.sock"]
        # As bad as it gets: the folder above is open. `nobody` was the account of every server before.
        other.state.chmod(0o755)
        strangers = (owners[0], 65534)
        assert [(who, file) for who in strangers for file in files if is_readable_as(who, file)] == []


@needs_mysql
@only_root
def test_mysql_takes_over_the_data_of_the_account_it_had_before(folder: Path) -> None:
    server = MysqlServer(folder, HARD_PASSWORD, die_with_parent=True)
    server.ensure()
    try:
        with as_admin(server) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE studies")
            cursor.execute("CREATE TABLE studies.t (x INT)")
        server.stop()
        subprocess.run(["chown", "-R", "65534:65534", server.datadir.parent], check=True)
        server.ensure()
        with as_admin(server) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO studies.t VALUES (1)")
        assert server.datadir.stat().st_uid not in (0, 65534)
    finally:
        server.stop()


def test_an_account_number_is_the_checkouts_and_nobody_elses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = next(candidates(folder))
    assert number == next(candidates(folder))
    assert number != next(candidates(folder / "another"))
    monkeypatch.setattr("init.local.accounts.is_taken", lambda candidate: candidate == number)
    assert next(candidates(folder)) == number + 1


def test_spark_offers_its_cores_and_gpus(spark_cluster: SparkCluster) -> None:
    assert not spark_cluster.ensure()
    with urllib.request.urlopen(f"{spark_cluster.web_url}/json/", timeout=60) as answer:
        (worker,) = json.load(answer)["workers"]
    assert worker["cores"] == 4
    assert worker["resources"] == {"gpu": {"name": "gpu", "addresses": ["0", "1"]}}


def test_spark_listens_on_loopback_only(spark_cluster: SparkCluster) -> None:
    for service in (spark_cluster.master, spark_cluster.worker):
        # Java shows an IPv4 address as an IPv6 one.
        assert listening_addresses(service.pid) <= {LOOPBACK, f"::ffff:{LOOPBACK}"}


def test_spark_comes_back_when_its_master_was_killed() -> None:
    with private_spark(cores=2) as cluster:
        os.kill(cluster.master.pid, signal.SIGKILL)
        time.sleep(0.2)
        assert cluster.ensure()
        assert cluster.alive_workers() == 1
