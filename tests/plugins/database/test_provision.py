"""provision_database against a real server: idempotent, least privilege, and one sentence for what is wrong."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pymysql
import pytest

from init.local.mysql import MysqlServer
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tuning_pipeline.database.account import RIGHTS
from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.database.provision import provision
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.keys.study_keys import DatabaseSettings
from tuning_pipeline.study_file.settings import StudySettings
from tuning_pipeline.targets.databricks.keys.settings import ClusterSettings, DatabricksSettings

HARD_PASSWORD = "a'b\"c%d{e}f\\g @:/?#"
_numbers = itertools.count(1)

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def sql(mysql_server: MysqlServer) -> Iterator[Sql]:
    """Runs a statement as the administrator."""
    connection = connect(mysql_server, mysql_server.admin_user, mysql_server.admin_password)
    with closing(connection), connection.cursor() as cursor:

        def run(statement: str, *values: object) -> list[tuple[Any, ...]]:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

        yield run


@pytest.fixture
def names(sql: Sql) -> Iterator[dict[str, str]]:
    """A database and an account that nothing else uses."""
    number = next(_numbers)
    found = {"schema": f"optuna_t{number}", "login": f"tuner_{number}"}
    yield found
    sql(f"DROP DATABASE IF EXISTS {found['schema']}")
    for (host,) in sql("SELECT Host FROM mysql.user WHERE User = %s", found["login"]):
        sql("DROP USER %s@%s", found["login"], host)


@pytest.fixture(autouse=True)
def connections(mysql_server: MysqlServer, names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server))
    set_connection(monkeypatch, TUNING, **tuning_fields(mysql_server, **names))


def connect(server: MysqlServer, user: str, password: str, database: str | None = None) -> Any:
    return pymysql.connect(
        host=server.host, port=server.port, user=user, password=password, database=database, autocommit=True
    )


def settings(wait_s: float = 0, host: str | None = "%", **changes: Any) -> StudySettings:
    return StudySettings(study="s", database=DatabaseSettings(host_pattern=host, wait_s=wait_s), **changes)


def failure(wait_s: float = 0) -> Failure:
    with pytest.raises(TaskError) as caught:
        provision(settings(wait_s))
    return caught.value.failure


def use_study() -> None:
    """What a run does with the database, as the tuning account."""
    from optuna_spark.storage.optuna_storage import create_storage

    storage = create_storage(storage_url(database_connection(TUNING)))
    study = optuna.create_study(study_name="s", storage=storage, load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    optuna.delete_study(study_name="s", storage=storage)
    storage.remove_session()
    storage.engine.dispose()


def test_database_account_and_tables_are_made_and_can_be_used(names: dict[str, str], sql: Sql) -> None:
    made = provision(settings())
    assert made["database"] == names["schema"]
    use_study()
    collation = sql(
        "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME=%s", names["schema"]
    )
    assert collation[0][0] in ("utf8mb4_0900_bin", "utf8mb4_nopad_bin")  # MySQL's, MariaDB's


def test_a_second_time_changes_nothing(names: dict[str, str], sql: Sql) -> None:
    first = provision(settings())
    before = sql("SELECT * FROM mysql.user WHERE User = %s", names["login"])
    assert provision(settings()) == first
    assert sql("SELECT * FROM mysql.user WHERE User = %s", names["login"]) == before


def test_the_account_may_use_its_own_database_and_nothing_else(
    names: dict[str, str], sql: Sql, mysql_server: MysqlServer
) -> None:
    provision(settings())
    # `_` is a wildcard in GRANT: a database that differs in that place must stay closed.
    neighbour = names["schema"].replace("_", "x")
    sql(f"CREATE DATABASE IF NOT EXISTS {neighbour}")
    sql(f"CREATE TABLE IF NOT EXISTS {neighbour}.t (i INT)")
    forbidden = [
        f"SELECT * FROM {neighbour}.t",
        f"CREATE TABLE {neighbour}.u (i INT)",
        "SELECT * FROM mysql.user",
        "CREATE DATABASE other",
        "CREATE USER u",
        f"GRANT SELECT ON {names['schema']}.* TO {names['login']}",
        f"DROP TABLE {names['schema']}.trials",
        f"DROP DATABASE {names['schema']}",
        "SET GLOBAL max_connections = 10",
    ]
    try:
        with closing(connect(mysql_server, names["login"], "tuning-pw", names["schema"])) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT COUNT(*) FROM studies")
            for statement in forbidden:
                with pytest.raises(pymysql.MySQLError, match="denied"):
                    cursor.execute(statement)
    finally:
        sql(f"DROP DATABASE {neighbour}")


# REFERENCES is checked by MySQL only, ALTER when the tables of an older Optuna are upgraded.
@pytest.mark.parametrize("right", [right for right in RIGHTS if right not in ("REFERENCES", "ALTER")])
def test_every_granted_right_is_needed(right: str, names: dict[str, str], sql: Sql) -> None:
    sql(f"CREATE DATABASE {names['schema']}")
    sql("CREATE USER %s@'%%' IDENTIFIED BY 'tuning-pw'", names["login"])
    rest = ", ".join(r for r in RIGHTS if r != right)
    sql(f"GRANT {rest} ON {names['schema']}.* TO %s@'%%'", names["login"])
    with pytest.raises(Exception, match=r"denied|commit|may not use"):
        use_study()


@pytest.mark.parametrize("password", [HARD_PASSWORD, "100%", "{}", "'; DROP TABLE x; --", "%s%(x)s"])
def test_any_password_works_and_shows_nowhere(
    password: str,
    names: dict[str, str],
    mysql_server: MysqlServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_connection(monkeypatch, TUNING, **tuning_fields(mysql_server, **names, password=password))
    with caplog.at_level(logging.DEBUG):
        made = provision(settings())
    use_study()
    assert password not in caplog.text
    assert password not in repr(made)


def test_a_changed_password_is_given_to_the_account(
    names: dict[str, str], mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(settings())
    set_connection(monkeypatch, TUNING, **tuning_fields(mysql_server, **names, password=HARD_PASSWORD))
    provision(settings())
    use_study()
    with pytest.raises(pymysql.MySQLError, match="denied"):
        connect(mysql_server, names["login"], "tuning-pw")


def test_the_host_pattern_is_the_accounts(names: dict[str, str], sql: Sql) -> None:
    provision(settings(host="127.0.0.1"))
    assert sql("SELECT Host FROM mysql.user WHERE User = %s", names["login"]) == [("127.0.0.1",)]
    use_study()


@pytest.mark.attack("a shared machine", "the tuning account from another host than the driver's")
def test_without_a_pattern_the_account_is_for_the_host_the_server_sees(
    names: dict[str, str], sql: Sql, mysql_server: MysqlServer
) -> None:
    made = provision(settings(host=None))
    assert made["account"] == f"'{names['login']}'@'127.0.0.1'"
    assert "wider_accounts" not in made
    assert sql("SELECT Host FROM mysql.user WHERE User = %s", names["login"]) == [("127.0.0.1",)]
    use_study()
    account: dict[str, Any] = {"host": mysql_server.host, "port": mysql_server.port, "user": names["login"]}
    with pytest.raises(pymysql.MySQLError, match=r"not allowed|denied"):
        pymysql.connect(**account, password="tuning-pw", bind_address="127.0.0.2")


def test_the_connection_may_say_the_pattern_for_all_studies(
    names: dict[str, str], mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = tuning_fields(mysql_server, **names)
    set_connection(monkeypatch, TUNING, **tuning | {"extra": {"host_pattern": "127.0.%"}})
    assert provision(settings(host=None))["account"] == f"'{names['login']}'@'127.0.%'"
    assert provision(settings(host="127.%"))["account"] == f"'{names['login']}'@'127.%'"
    set_connection(monkeypatch, TUNING, **tuning | {"extra": {"host_pattern": "' OR 1"}})
    with pytest.raises(TaskError, match="host_pattern of connection 'tuning_db' must be a host"):
        provision(settings(host=None))


DATABRICKS = DatabricksSettings(
    files="/Volumes/a/b/c", database="external", cluster=ClusterSettings(node_type="g4dn.xlarge")
)
ELSEWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "workers connect": ({"coordination": "database"}, "with coordination database every worker connects to MySQL"),
    "on a cluster": (
        {"target": "databricks", "target_sections": {"databricks": DATABRICKS}},
        "the driver runs on the Databricks cluster",
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_a_pattern_must_be_said_where_others_connect(case: str, names: dict[str, str], sql: Sql) -> None:
    changes, why = ELSEWHERE[case]
    with pytest.raises(TaskError) as caught:
        provision(settings(host=None, **changes))
    assert why in caught.value.failure.why
    assert "Set database.host_pattern in the study file" in caught.value.failure.next
    assert sql("SELECT Host FROM mysql.user WHERE User = %s", names["login"]) == []
    assert provision(settings(host="127.%", **changes))["account"].endswith("@'127.%'")


def test_a_pattern_must_be_said_where_the_administrator_goes_another_way(
    mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server) | {"host": "localhost"})
    with pytest.raises(TaskError) as caught:
        provision(settings(host=None))
    assert "reach the server in different ways" in caught.value.failure.why


def test_an_account_for_every_host_is_reported_and_stays(
    names: dict[str, str], sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    provision(settings(host="%"))
    with caplog.at_level(logging.WARNING):
        made = provision(settings(host=None))
    wide = f"'{names['login']}'@'%'"
    assert made["wider_accounts"] == [wide]
    assert f"Account {wide} lets in other hosts than 127.0.0.1" in caplog.text
    assert f"DROP USER {wide};" in caplog.text
    sql("DROP USER %s@'%%'", names["login"])
    use_study()
    assert "wider_accounts" not in provision(settings(host=None))


@pytest.mark.parametrize("password", ["", None])
def test_an_account_without_a_password_is_never_made(
    password: str | None, names: dict[str, str], mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    set_connection(monkeypatch, TUNING, **tuning_fields(mysql_server, **names, password=password))
    assert failure().what == "connection 'tuning_db' lacks password"
    assert sql("SELECT Host FROM mysql.user WHERE User = %s", names["login"]) == []


def test_an_account_that_another_one_hides_is_told(names: dict[str, str], sql: Sql) -> None:
    sql("CREATE USER %s@'127.0.0.1' IDENTIFIED BY 'other'", names["login"])
    told = failure()
    assert "still refuses account" in told.what
    assert "matches this machine before '%' does" in told.why


def test_more_rights_than_needed_are_told(names: dict[str, str], sql: Sql, caplog: pytest.LogCaptureFixture) -> None:
    provision(settings())
    sql("GRANT SELECT ON `mysql`.* TO %s@'%%'", names["login"])
    with caplog.at_level(logging.WARNING):
        provision(settings())
    assert f"Account '{names['login']}'@'%' has more rights than a study needs, on mysql: revoke them" in caplog.text


def test_a_fitting_account_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        provision(settings())
        provision(settings())
    assert not [r for r in caplog.records if r.name.startswith("tuning_pipeline")]


def test_the_admins_own_account_is_never_the_tuning_account(
    names: dict[str, str], mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"login": mysql_server.admin_user, "password": "new"}
    set_connection(monkeypatch, TUNING, **tuning_fields(mysql_server, **names) | account)
    assert "use the same account" in failure().what
    connect(mysql_server, mysql_server.admin_user, mysql_server.admin_password).close()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema", "optuna`; DROP", "schema of connection 'tuning_db' must match"),
        ("schema", "opt-una", "schema of connection 'tuning_db' must match"),
        ("login", "o'brien", "login of connection 'tuning_db' must match"),
        ("schema", None, "connection 'tuning_db' lacks schema"),
        ("login", None, "connection 'tuning_db' lacks login"),
        ("conn_type", "postgres", "has type 'postgres', but only mysql and sqlite are supported"),
    ],
)
def test_names_are_checked(
    field: str, value: object, message: str, mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, TUNING, **tuning_fields(mysql_server) | {field: value})
    assert message in failure().what


def test_a_password_that_pymysql_would_garble_is_refused_unseen(
    mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, TUNING, **tuning_fields(mysql_server, password="sücret"))
    told = failure()
    assert told.what == "the password of connection 'tuning_db' holds a character outside ASCII"
    assert "sücret" not in repr(told)


def test_a_missing_connection_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_TUNING_DB")
    told = failure()
    assert told.what == "Airflow has no connection 'tuning_db' (the study's database)"
    assert "AIRFLOW_CONN_TUNING_DB" in told.next


def test_a_wrong_admin_password_fails_at_once_and_for_good(
    mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server) | {"password": "wrong"})
    start = time.monotonic()
    told = failure(wait_s=30)
    assert time.monotonic() - start < 5
    assert "refuses account 'tuning_admin' or its password" in told.what
    assert told.next == "Correct login and password of connection 'tuning_db_admin'."
    assert not told.retry


def test_an_admin_without_rights_is_told(
    names: dict[str, str], sql: Sql, mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("CREATE USER 'weak'@'%' IDENTIFIED BY 'pw'")
    try:
        set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server) | {"login": "weak", "password": "pw"})
        told = failure()
        assert told.what.startswith("account 'weak' lacks a right at")
        assert not told.retry
    finally:
        sql("DROP USER 'weak'@'%'")


def test_a_server_that_does_not_answer_is_told_after_the_wait(
    monkeypatch: pytest.MonkeyPatch, mysql_server: MysqlServer, caplog: pytest.LogCaptureFixture
) -> None:
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server) | {"port": 1})
    start = time.monotonic()
    with caplog.at_level(logging.INFO):
        told = failure(wait_s=2)
    assert 2 <= time.monotonic() - start < 6
    assert told.what == "no MySQL server answers at 127.0.0.1:1"
    assert "Start the server" in told.next
    assert told.retry
    assert "Waiting for MySQL at 127.0.0.1:1 (0 of 2 s)" in caplog.text


class TestWithoutAnAdminConnection:
    @pytest.fixture(autouse=True)
    def no_admin(self, monkeypatch: pytest.MonkeyPatch, connections: None) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_TUNING_DB_ADMIN")

    @pytest.fixture
    def grant(self, names: dict[str, str], sql: Sql) -> Callable[[str], None]:
        def grant(rights: str) -> None:
            sql(f"CREATE DATABASE {names['schema']} CHARACTER SET utf8mb4")
            sql("CREATE USER %s@'%%' IDENTIFIED BY 'tuning-pw'", names["login"])
            sql(f"GRANT {rights} ON {names['schema']}.* TO %s@'%%'", names["login"])

        return grant

    @pytest.mark.parametrize("rights", [", ".join(RIGHTS), "ALL PRIVILEGES"])
    def test_an_account_with_its_rights_makes_the_tables(self, rights: str, grant: Callable[[str], None]) -> None:
        grant(rights)
        provision(settings())
        use_study()

    def test_missing_rights_are_named(self, grant: Callable[[str], None], names: dict[str, str]) -> None:
        grant("SELECT, INSERT, CREATE")
        told = failure()
        account = f"'{names['login']}'@'%'"
        assert told.what == (
            f"account {account} lacks UPDATE, DELETE, ALTER, INDEX, REFERENCES on database '{names['schema']}'"
        )
        pattern = names["schema"].replace("_", "\\_")
        assert f"GRANT UPDATE, DELETE, ALTER, INDEX, REFERENCES ON `{pattern}`.* TO {account}" in told.next

    def test_tables_that_are_there_need_no_right_to_make_them(
        self, names: dict[str, str], sql: Sql, grant: Callable[[str], None]
    ) -> None:
        grant("ALL PRIVILEGES")
        provision(settings())
        sql(f"REVOKE ALL PRIVILEGES ON {names['schema']}.* FROM %s@'%%'", names["login"])
        sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {names['schema']}.* TO %s@'%%'", names["login"])
        provision(settings())
        use_study()

    def test_a_missing_database_is_told(self, names: dict[str, str], sql: Sql) -> None:
        sql("CREATE USER %s@'%%' IDENTIFIED BY 'tuning-pw'", names["login"])
        sql("GRANT SELECT ON *.* TO %s@'%%'", names["login"])
        told = failure()
        assert told.what.endswith(f"has no database '{names['schema']}'")
        assert "add an admin connection" in told.next
        assert not told.retry

    def test_an_account_without_any_right_is_told(self, names: dict[str, str], sql: Sql) -> None:
        sql("CREATE USER %s@'%%' IDENTIFIED BY 'tuning-pw'", names["login"])
        assert failure().what.startswith(f"account '{names['login']}' lacks a right at")

    def test_a_wrong_password_fails_at_once_and_for_good(self, names: dict[str, str], sql: Sql) -> None:
        sql("CREATE USER %s@'%%' IDENTIFIED BY 'another'", names["login"])
        told = failure(wait_s=30)
        assert f"refuses account '{names['login']}' or its password" in told.what
        assert not told.retry


def test_two_at_once_make_the_tables_once(names: dict[str, str]) -> None:
    provision(settings())
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: provision(settings()), range(4)))
    assert all(m == made[0] for m in made)
    use_study()


def test_tables_of_an_older_optuna_are_upgraded(names: dict[str, str], sql: Sql) -> None:
    head = provision(settings())["schema"]
    downgrade(names["schema"], sql)
    assert provision(settings())["schema"] == head
    assert sql(f"SELECT version_num FROM {names['schema']}.alembic_version") == [(head,)]
    use_study()


def downgrade(schema: str, sql: Sql) -> None:
    """What Optuna 3.1 left behind: revision v3.0.0.d, one index less (the stand-in is for the foreign key)."""
    sql(f"UPDATE {schema}.alembic_version SET version_num = 'v3.0.0.d'")
    sql(f"CREATE INDEX stand_in ON {schema}.trials (study_id)")
    sql(f"DROP INDEX ix_trials_study_id ON {schema}.trials")


def test_tables_of_a_newer_optuna_are_refused(names: dict[str, str], sql: Sql) -> None:
    provision(settings())
    sql(f"UPDATE {names['schema']}.alembic_version SET version_num = 'v9.0.0.a'")
    told = failure()
    assert told.what.startswith("the database holds Optuna's schema v9.0.0.a, newer than")
    assert not told.retry


def test_sqlite_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=str(tmp_path / "study.db"))
    assert provision(settings())["server"] == "sqlite"
    assert provision(settings())["database"] == str(tmp_path / "study.db")
    use_study()


def test_an_sqlite_file_that_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=str(tmp_path / "no" / "study.db"))
    assert failure().what == f"the SQLite file {tmp_path}/no/study.db cannot be used"
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host="study.db")
    assert failure().what == "connection 'tuning_db' lacks host (an absolute path)"
