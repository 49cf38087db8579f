"""init/mysql: the scripts for a MySQL server that a cluster shares, run against a real one."""

from __future__ import annotations

import os
import re
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
from optuna_spark.database.mysql_connection import connect
from optuna_spark.database.tls import TlsSettings
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.mysql_proxy import stripping_proxy
from tests.support.programs import run_program
from tests.support.servers import HARD_PASSWORD, private_mysql
from tests.support.tls_server import OTHER_NAME, TlsServer
from tuning_pipeline.database.provision import provision
from tuning_pipeline.study_file.keys.study_keys import DatabaseSettings
from tuning_pipeline.study_file.settings import StudySettings

SCRIPTS = REPOSITORY / "init" / "mysql"
needs_client = pytest.mark.skipif(
    not (shutil.which("mariadb") or shutil.which("mysql")), reason="no mariadb or mysql client is installed here"
)


def create_account(
    server: MysqlServer, *options: str, password: str = HARD_PASSWORD, **environment: str
) -> subprocess.CompletedProcess[str]:
    admin = ["--host", server.host, "--port", str(server.port), "--admin-user", server.admin_user]
    secrets = {"TUNING_DB_PASSWORD": password, "TUNING_DB_ADMIN_PASSWORD": server.admin_password}
    command = [str(SCRIPTS / "create-account.sh"), *admin, "--allow-from", "%", *options]
    return run_program(command, env=os.environ | secrets | environment, code=None)


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
    collation = query(
        mysql_server,
        "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = 'team_a'",
        "tuner",
    )
    assert collation[0][0] in ("utf8mb4_0900_bin", "utf8mb4_nopad_bin")  # MySQL's, MariaDB's


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
    command = [str(SCRIPTS / "create-account.sh"), *admin, "--allow-from", "%"]
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


def test_the_hosts_of_the_account_must_be_said() -> None:
    done = run_program([SCRIPTS / "create-account.sh"], code=None)
    assert done.returncode == 1
    assert "--allow-from is missing: name the hosts the account may connect from" in done.stderr


def grants(server: MysqlServer, account: str) -> list[str]:
    with (
        closing(
            pymysql.connect(
                host=server.host,
                port=server.port,
                user=server.admin_user,
                password=server.admin_password,
                autocommit=True,
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SHOW GRANTS FOR {account}")
        # The password's hash is salted or not, as the server's version has it.
        return sorted(re.sub("IDENTIFIED BY PASSWORD '[^']*'", "", grant) for (grant,) in cursor.fetchall())


@needs_client
@pytest.mark.parametrize("keys", [{}, {"ssl_mode": "VERIFY_IDENTITY"}], ids=["clear", "sealed"])
def test_script_and_task_grant_the_same(
    keys: dict[str, str], tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tls_server.server
    given = tls_server.keys(keys["ssl_mode"]) if keys else {}
    for conn_id, fields in (
        (TUNING, tuning_fields(server, login="twice", schema="optuna_twice")),
        (ADMIN, admin_fields(server)),
    ):
        set_connection(monkeypatch, conn_id, **fields | {"extra": given})
    provision(StudySettings(study="s", database=DatabaseSettings(wait_s=0)))
    by_task = grants(server, "'twice'@'127.0.0.1'")
    as_admin(server, "DROP USER 'twice'@'127.0.0.1'")
    names = ["--user", "twice", "--database", "optuna_twice", "--allow-from", "127.0.0.1"]
    done = create_account(server, *names, *tls_options(given), password="tuning-pw")
    assert done.returncode == 0, done.stderr
    assert grants(server, "'twice'@'127.0.0.1'") == by_task
    assert ("REQUIRE SSL" in "".join(by_task)) == bool(keys)
    as_admin(server, "DROP USER 'twice'@'127.0.0.1'")


@needs_client
def test_an_account_for_every_host_is_reported_and_stays(mysql_server: MysqlServer, names: tuple[str, ...]) -> None:
    create_account(mysql_server, *names)
    done = create_account(mysql_server, *names, "--allow-from", "127.0.0.1")
    assert done.returncode == 0
    assert "'tuner'@'%' lets in other hosts too: if nothing needs it, run DROP USER 'tuner'@'%';" in done.stderr
    assert grants(mysql_server, "'tuner'@'%'")
    as_admin(mysql_server, "DROP USER 'tuner'@'127.0.0.1'")


def tls_options(keys: dict[str, str]) -> list[str]:
    return [part for key, value in keys.items() for part in (f"--{key.replace('_', '-')}", value)]


@needs_client
@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared before create-account.sh", times=3)
@pytest.mark.parametrize("home", [False, True], ids=["bare", "an option file says otherwise"])
def test_the_script_says_nothing_when_the_offer_is_stripped(home: bool, tls_server: TlsServer, tmp_path: Path) -> None:
    if home:
        (tmp_path / ".my.cnf").write_text("[client]\nskip-ssl\nssl-verify-server-cert=0\n")
    for mode in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"):
        with stripping_proxy(tls_server.server.port) as proxy:
            options = [*tls_options(tls_server.keys(mode)), "--port", str(proxy.port)]
            done = create_account(tls_server.server, *options, HOME=str(tmp_path))
            assert done.returncode != 0
            assert proxy.heard == b""
            message = "SSL is required|SSL connection error|cannot promise --ssl-mode"
            assert re.search(message, done.stderr), done.stderr


@needs_client
@pytest.mark.attack("TLS to MySQL", "a stranger's authority or another name, before create-account.sh", times=2)
def test_the_script_trusts_its_own_authority_and_the_name_only(tls_server: TlsServer) -> None:
    wrong = tls_options(tls_server.wrong_authority("VERIFY_IDENTITY"))
    elsewhere = [*tls_options(tls_server.keys("VERIFY_IDENTITY")), "--host", OTHER_NAME]
    for options in (wrong, elsewhere):
        done = create_account(tls_server.server, *options)
        assert done.returncode != 0
        assert "ERROR 2026" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ssl-mode", "PREFERRED"], "--ssl-mode must be DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"),
        (["--ssl-mode", "VERIFY_CA"], "--ssl-mode VERIFY_CA needs --ssl-ca"),
        (["--ssl-ca", "/dev/null"], "--ssl-ca needs --ssl-mode VERIFY_CA or VERIFY_IDENTITY"),
        (["--ssl-mode", "REQUIRED", "--ssl-cert", "/dev/null"], "--ssl-cert and --ssl-key belong together"),
        (["--ssl-mode", "VERIFY_CA", "--ssl-ca", "/no"], "a file for TLS cannot be read: /no"),
    ],
)
def test_tls_that_is_not_understood_is_refused(mysql_server: MysqlServer, options: list[str], message: str) -> None:
    done = create_account(mysql_server, *options)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_server_told_of_its_certificate_takes_nobody_in_clear_text(tls_server: TlsServer, tmp_path: Path) -> None:
    own = tls_server.authority.sign("installed", ["127.0.0.1"])
    files = ["--ssl-cert", str(own.cert), "--ssl-key", str(own.key), "--ssl-mode", "REQUIRED"]
    done = install_server("--bind-address", "127.0.0.1", "--conf-dir", str(tmp_path), *files)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "90-tuning.cnf").read_text().splitlines()
    options = [f"--{line.replace(' = ', '=')}" for line in lines if line.startswith(("ssl-", "require_"))]
    with private_mysql(HARD_PASSWORD, tuple(options)) as server:
        account = {"host": server.host, "port": server.port, "user": server.admin_user, "password": HARD_PASSWORD}
        connect(TlsSettings("VERIFY_IDENTITY", str(tls_server.authority.ca)), **account).close()
        with pytest.raises(pymysql.err.OperationalError, match=r"insecure transport|denied"):
            connect(TlsSettings("DISABLED"), **account)


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    done = install_server("--bind-address", "127.0.0.1", "--conf-dir", str(tmp_path), "--ssl-mode", "REQUIRED")
    assert "--ssl-mode and --ssl-ca need --ssl-cert and --ssl-key" in done.stderr
    assert list(tmp_path.iterdir()) == []
