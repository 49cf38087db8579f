"""init/mysql: the scripts for a MySQL server that a cluster shares, run against a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest

from init.local.layout import REPOSITORY
from init.local.mysql import MysqlServer
from tests.support.programs import run_program
from tests.support.servers import HARD_PASSWORD

SCRIPTS = REPOSITORY / "init" / "mysql"
needs_client = pytest.mark.skipif(
    not (shutil.which("mariadb") or shutil.which("mysql")), reason="no mariadb or mysql client is installed here"
)


def create_account(
    server: MysqlServer, *options: str, password: str = HARD_PASSWORD
) -> subprocess.CompletedProcess[str]:
    admin = ["--host", server.host, "--port", str(server.port), "--admin-user", server.admin_user]
    secrets = {"TUNING_DB_PASSWORD": password, "TUNING_DB_ADMIN_PASSWORD": server.admin_password}
    command = [str(SCRIPTS / "create-account.sh"), *admin, *options]
    return run_program(command, env=os.environ | secrets, code=None)


def query(server: MysqlServer, sql: str, user: str, password: str = HARD_PASSWORD) -> list[tuple[Any, ...]]:
    with (
        closing(pymysql.connect(host=server.host, port=server.port, user=user, password=password)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(sql)
        return list(cursor.fetchall())


def as_admin(server: MysqlServer, sql: str) -> list[tuple[Any, ...]]:
    return query(server, sql, server.admin_user, server.admin_password)


@pytest.fixture
def names(mysql_server: MysqlServer) -> Iterator[tuple[str, ...]]:
    """Options that name a database and an account of this test's own, removed afterwards."""
    yield ("--database", "team_a", "--user", "tuner")
    as_admin(mysql_server, "DROP DATABASE IF EXISTS team_a")
    as_admin(mysql_server, "DROP USER IF EXISTS 'tuner'@'%'")


@needs_client
def test_the_account_can_use_its_database(mysql_server: MysqlServer, names: tuple[str, ...]) -> None:
    done = create_account(mysql_server, *names)
    assert (done.returncode, done.stdout) == (0, "tuner from % may use the database team_a\n"), done.stderr
    query(mysql_server, "CREATE TABLE team_a.t (i INT)", "tuner")
    charset = query(
        mysql_server,
        "SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name = 'team_a'",
        "tuner",
    )
    assert charset == [("utf8mb4",)]


@needs_client
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM mysql.user",
        "CREATE DATABASE other",
        "CREATE DATABASE teamxa",  # an unescaped _ in the grant would allow it
        "GRANT SELECT ON team_a.* TO 'tuner'@'%'",
    ],
)
def test_the_account_can_do_nothing_else(mysql_server: MysqlServer, names: tuple[str, ...], sql: str) -> None:
    create_account(mysql_server, *names)
    with pytest.raises(pymysql.err.MySQLError):
        query(mysql_server, sql, "tuner")


@needs_client
def test_running_it_again_takes_over_a_new_password_and_trims_rights(
    mysql_server: MysqlServer, names: tuple[str, ...]
) -> None:
    create_account(mysql_server, *names, password="before")
    as_admin(mysql_server, "GRANT ALL PRIVILEGES ON *.* TO 'tuner'@'%' WITH GRANT OPTION")
    done = create_account(mysql_server, *names, password="after")
    assert done.returncode == 0, done.stderr
    with pytest.raises(pymysql.err.OperationalError):
        query(mysql_server, "SELECT 1", "tuner", "before")
    with pytest.raises(pymysql.err.MySQLError):
        query(mysql_server, "SELECT * FROM mysql.user", "tuner", "after")


@needs_client
def test_the_password_can_come_from_a_file(mysql_server: MysqlServer, names: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(HARD_PASSWORD + "\n")
    done = create_account(mysql_server, *names, "--password-file", str(file), password="")
    assert done.returncode == 0, done.stderr
    assert query(mysql_server, "SELECT 1", "tuner") == [(1,)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--database", "a; DROP"], "--database must be letters, digits and _, got 'a; DROP'"),
        (["--user", "a'b"], "--user must be letters, digits and _, got 'a'b'"),
        (["--allow-from", "%' WITH"], "--allow-from must be a host, an address or a pattern with %, got '%' WITH'"),
        (["--user"], "--user needs a value"),
        (["--nope", "x"], "unknown argument: --nope"),
        (["--password-file", "/does/not/exist"], "--password-file cannot be read: /does/not/exist"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(mysql_server: MysqlServer, options: list[str], message: str) -> None:
    done = create_account(mysql_server, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == f"create-account.sh: {message}"


@needs_client
def test_a_wrong_admin_password_fails(mysql_server: MysqlServer) -> None:
    secrets = {"TUNING_DB_PASSWORD": "x", "TUNING_DB_ADMIN_PASSWORD": "wrong"}
    admin = ["--host", mysql_server.host, "--port", str(mysql_server.port), "--admin-user", mysql_server.admin_user]
    command = [str(SCRIPTS / "create-account.sh"), *admin]
    done = run_program(command, env=os.environ | secrets, code=None)
    assert done.returncode != 0, done.stdout + done.stderr
    assert "Access denied" in done.stderr


def install_server(*options: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "install-server.sh"), "--no-install", "--no-restart", *options]
    return run_program(command, code=None)


def test_the_server_is_told_its_address_once(tmp_path: Path) -> None:
    options = ("--bind-address", "127.0.0.9", "--conf-dir", str(tmp_path))
    assert "wrote" in install_server(*options).stdout
    assert "up to date" in install_server(*options).stdout
    assert "wrote" in install_server(*options, "--port", "3307").stdout


def test_a_real_server_understands_the_settings(mysql_server: MysqlServer, tmp_path: Path) -> None:
    install_server("--bind-address", "127.0.0.9", "--conf-dir", str(tmp_path))
    program = Path(f"/proc/{mysql_server.service.pid}/exe").resolve()
    told = [str(program), f"--defaults-file={tmp_path}/90-tuning.cnf", "--verbose", "--help", f"--datadir={tmp_path}"]
    known = run_program(told, code=None).stdout
    values = dict(line.split(maxsplit=1) for line in known.splitlines() if len(line.split(maxsplit=1)) == 2)
    assert (values["bind-address"], values["max-connections"]) == ("127.0.0.9", "500")
    assert values["character-set-server"] == "utf8mb4"


@pytest.mark.parametrize("address", ["", "localhost; rm", "10.0.0.5 "])
def test_a_bind_address_must_be_an_address(address: str, tmp_path: Path) -> None:
    done = install_server("--conf-dir", str(tmp_path), *(["--bind-address", address] if address else []))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "--bind-address must be an IP address of this machine" in done.stderr
    assert list(tmp_path.iterdir()) == []
