"""TLS to MySQL from Airflow's side: kept as asked for, or refused before anything is sent. Against a real server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy
from airflow.sdk import BaseHook

from init.local.mysql import MysqlServer
from optuna_spark.errors import SpecError, TlsError
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.mysql_proxy import StrippingProxy, stripping_proxy
from tests.support.tls_server import OTHER_NAME, TlsServer
from tuning_pipeline.database.connections import database_connection, storage_url, tls_settings
from tuning_pipeline.database.mysql_hook import PyMySqlHook
from tuning_pipeline.database.provision import provision
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.keys.study_keys import DatabaseSettings
from tuning_pipeline.study_file.settings import StudySettings
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.databricks.keys.settings import ClusterSettings, DatabricksSettings
from tuning_pipeline.targets.databricks.workspace.upload import passwordless_url

MODES = ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_numbers = itertools.count(1)

every_mode = pytest.mark.parametrize("mode", MODES)


def settings() -> StudySettings:
    return StudySettings(study="s", database=DatabaseSettings(wait_s=0))


class Connections:
    """Both connections, with one address and the same TLS keys unless told otherwise."""

    def __init__(self, patch: pytest.MonkeyPatch, server: MysqlServer) -> None:
        number = next(_numbers)
        self._patch, self._server = patch, server
        self.names = {"schema": f"optuna_tls{number}", "login": f"sealed_{number}"}

    def use(self, keys: dict[str, Any], admin_keys: dict[str, Any] | None = None, **address: Any) -> None:
        admin = keys if admin_keys is None else admin_keys
        tuning = tuning_fields(self._server, **self.names)
        set_connection(self._patch, TUNING, **tuning | address | {"extra": keys})
        set_connection(self._patch, ADMIN, **admin_fields(self._server) | address | {"extra": admin})


@pytest.fixture
def connections(tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> Connections:
    return Connections(monkeypatch, tls_server.server)


@pytest.fixture
def stripped(tls_server: TlsServer) -> Iterator[StrippingProxy]:
    with stripping_proxy(tls_server.server.port) as proxy:
        yield proxy


@pytest.fixture
def plain(mysql_server: MysqlServer) -> Iterator[StrippingProxy]:
    """A server that knows no TLS, and what it is told."""
    with stripping_proxy(mysql_server.port) as proxy:
        yield proxy


def open_hook(conn_id: str = ADMIN) -> Any:
    return PyMySqlHook(connection=BaseHook.get_connection(conn_id)).get_conn()


def cipher(connection: Any) -> str:
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        return str(cursor.fetchone()[1])


def card() -> Failure:
    with pytest.raises(TaskError) as caught:
        provision(settings())
    return caught.value.failure


def refusal_of_hook() -> str:
    with pytest.raises(pymysql.err.OperationalError) as caught:
        open_hook()
    code, why = caught.value.args
    assert code == 2026
    return str(why)


@every_mode
def test_the_hook_seals_its_connection(mode: str, tls_server: TlsServer, connections: Connections) -> None:
    connections.use(tls_server.keys(mode))
    assert cipher(open_hook())


def test_a_clients_certificate_is_shown(tls_server: TlsServer, connections: Connections, monkeypatch: Any) -> None:
    connections.use(tls_server.keys("VERIFY_IDENTITY"))
    provision(settings())
    account = "%s@'127.0.0.1'"
    with closing(open_hook()) as admin, admin.cursor() as cursor:
        cursor.execute(f"ALTER USER {account} REQUIRE X509", connections.names["login"])
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        open_hook(TUNING)
    own = tls_server.authority.sign("client")
    connections.use(tls_server.keys("VERIFY_IDENTITY") | {"ssl_cert": str(own.cert), "ssl_key": str(own.key)})
    assert cipher(open_hook(TUNING))


@every_mode
@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared in the greeting, before a task")
def test_the_hook_says_nothing_when_the_offer_is_stripped(
    mode: str, tls_server: TlsServer, connections: Connections, stripped: StrippingProxy
) -> None:
    connections.use(tls_server.keys(mode), port=stripped.port)
    assert "offers none; no password was sent" in refusal_of_hook()
    assert (stripped.stripped, stripped.heard) == (1, b"")


@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared in the greeting, before a task")
def test_the_form_of_airflows_own_hook_is_kept_too(
    tls_server: TlsServer, connections: Connections, stripped: StrippingProxy
) -> None:
    connections.use({"ssl": {"ca": str(tls_server.authority.ca)}}, port=stripped.port)
    assert card().what.startswith("there is no TLS to MySQL at")
    assert (stripped.stripped, stripped.heard) == (1, b"")


@every_mode
@pytest.mark.attack("TLS to MySQL", "a server without TLS, before a task")
def test_the_hook_says_nothing_to_a_server_without_tls(
    mode: str, tls_server: TlsServer, connections: Connections, plain: StrippingProxy
) -> None:
    connections.use(tls_server.keys(mode), port=plain.port)
    assert "offers none; no password was sent" in refusal_of_hook()
    assert (plain.stripped, plain.heard) == (0, b"")


@pytest.mark.parametrize("mode", ["VERIFY_CA", "VERIFY_IDENTITY"])
@pytest.mark.attack("TLS to MySQL", "a server of a stranger's authority")
def test_the_hook_trusts_its_own_authority_only(mode: str, tls_server: TlsServer, connections: Connections) -> None:
    connections.use(tls_server.wrong_authority(mode))
    assert "self-signed certificate in certificate chain" in refusal_of_hook()


@pytest.mark.attack("TLS to MySQL", "a server of the right authority under another name")
def test_a_certificate_for_another_name_is_refused_where_the_name_was_to_be_checked(
    tls_server: TlsServer, connections: Connections
) -> None:
    connections.use(tls_server.keys("VERIFY_CA"), host=OTHER_NAME)
    assert cipher(open_hook())
    connections.use(tls_server.keys("VERIFY_IDENTITY"), host=OTHER_NAME)
    assert "Hostname mismatch" in refusal_of_hook()


@every_mode
def test_a_study_is_made_and_used_over_tls(mode: str, tls_server: TlsServer, connections: Connections) -> None:
    connections.use(tls_server.keys(mode))
    made = provision(settings())
    assert made["account"] == f"'{connections.names['login']}'@'127.0.0.1'"
    storage = create_storage(storage_url(database_connection(TUNING)))
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").one()[1]
    close_storage(storage)
    assert provision(settings()) == made


def test_nobody_may_use_the_account_in_clear_text(tls_server: TlsServer, connections: Connections) -> None:
    connections.use({})
    provision(settings())
    connections.use(tls_server.keys("REQUIRED"))
    provision(settings())
    connections.use({"ssl_mode": "DISABLED"})
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        open_hook(TUNING)
    told = card()
    assert told.what.endswith("@'127.0.0.1' requires TLS, and connection 'tuning_db' asks for none")
    assert "REQUIRE NONE" in told.next


def test_tables_of_an_older_optuna_are_upgraded_over_tls(tls_server: TlsServer, connections: Connections) -> None:
    """Alembic opens a connection of its own; the account takes none in clear text."""
    connections.use(tls_server.keys("VERIFY_IDENTITY"))
    head = provision(settings())["schema"]
    schema = connections.names["schema"]
    with closing(open_hook()) as admin, admin.cursor() as cursor:
        cursor.execute(f"UPDATE {schema}.alembic_version SET version_num = 'v3.0.0.d'")
        cursor.execute(f"CREATE INDEX stand_in ON {schema}.trials (study_id)")
        cursor.execute(f"DROP INDEX ix_trials_study_id ON {schema}.trials")
        admin.commit()
    assert provision(settings())["schema"] == head


@every_mode
@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared before provision_database, which sends a new password")
def test_no_account_is_made_in_clear_text(
    mode: str, tls_server: TlsServer, connections: Connections, stripped: StrippingProxy
) -> None:
    connections.use(tls_server.keys(mode), port=stripped.port)
    told = card()
    assert told.what.startswith(f"there is no TLS to MySQL at 127.0.0.1:{stripped.port}")
    assert not told.retry
    assert (stripped.stripped, stripped.heard) == (1, b"")


@pytest.mark.parametrize("admin_mode", [None, "DISABLED", "REQUIRED", "VERIFY_CA"])
@pytest.mark.attack("TLS to MySQL", "a sealed account's password over a weaker admin connection")
def test_the_password_does_not_go_over_a_weaker_connection(
    admin_mode: str | None, tls_server: TlsServer, connections: Connections, plain: StrippingProxy
) -> None:
    admin_keys = tls_server.keys(admin_mode) if admin_mode else {}
    connections.use(tls_server.keys("VERIFY_IDENTITY"), admin_keys, port=plain.port)
    told = card()
    assert told.what == (
        "connection 'tuning_db' asks for ssl_mode VERIFY_IDENTITY, but 'tuning_db_admin', which sends that account's"
        f" password to the server, has {admin_mode or 'none'}"
    )
    assert plain.heard == b""


@every_mode
@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared before Airflow's pages and exports")
def test_the_engine_says_nothing_when_the_offer_is_stripped(
    mode: str, tls_server: TlsServer, connections: Connections, stripped: StrippingProxy
) -> None:
    connections.use(tls_server.keys(mode), port=stripped.port)
    with pytest.raises(TlsError, match="offers none; no password was sent: correct ssl_mode"):
        create_storage(storage_url(database_connection(TUNING)))
    assert stripped.stripped >= 1
    assert stripped.heard == b""


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown mode": ({"ssl_mode": "REQUIRE"}, "ssl_mode must be DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"),
    "falls back": ({"ssl_mode": "PREFERRED"}, "PREFERRED falls back to clear text without a word"),
    "a boolean": ({"ssl_mode": True}, "ssl_mode must be"),
    "dotted": ({"ssl.mode": "REQUIRED"}, "'ssl.mode' is no key for TLS to MySQL: these are ssl_mode ("),
    "a hyphen": ({"ssl-ca": "/ca.pem"}, "'ssl-ca' is no key"),
    "another driver's": ({"ssl_verify_cert": True}, "'ssl_verify_cert' is no key"),
    "tls": ({"tls": "true"}, "'tls' is no key"),
    "in capitals": ({"SSL_MODE": "REQUIRED"}, "'SSL_MODE' is no key"),
    "ca alone": ({"ssl_ca": "/ca.pem"}, "ssl_ca need ssl_mode REQUIRED, VERIFY_CA or VERIFY_IDENTITY, got none"),
    "ca, disabled": ({"ssl_mode": "DISABLED", "ssl_ca": "/ca.pem"}, "got DISABLED"),
    "ca unused": ({"ssl_mode": "REQUIRED", "ssl_ca": "/ca.pem"}, "belong together, got ssl_mode REQUIRED with ssl_ca"),
    "no ca": ({"ssl_mode": "VERIFY_CA"}, "belong together, got ssl_mode VERIFY_CA without ssl_ca"),
    "half": ({"ssl_mode": "REQUIRED", "ssl_cert": "/c.pem"}, "ssl_cert and ssl_key belong together, got only ssl_cert"),
    "relative": ({"ssl_mode": "VERIFY_CA", "ssl_ca": "ca.pem"}, "ssl_ca must be the absolute path of a PEM file"),
    "no path": ({"ssl_mode": "VERIFY_CA", "ssl_ca": 1}, "ssl_ca must be the absolute path of a PEM file, got 1"),
    "nested, more": ({"ssl": {"ca": "/ca.pem", "check_hostname": False}}, "'ssl' is taken with ca, cert and key only"),
    "nested, true": ({"ssl": True}, "'ssl' is taken with ca, cert and key only"),
    "nested, off": ({"ssl": None}, "'ssl' is taken with ca, cert and key only"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_understood_is_a_card(case: str, connections: Connections) -> None:
    keys, why = WRONG[case]
    connections.use(keys)
    told = card()
    assert told.what == "connection 'tuning_db' asks for TLS in a way that cannot be kept"
    assert why in told.why
    assert "the keys are ssl_mode (DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY), ssl_ca, ssl_cert" in told.next


@pytest.mark.parametrize("keys", [keys for keys, _ in WRONG.values()], ids=list(WRONG))
@pytest.mark.attack("TLS to MySQL", "a key for TLS that is not understood, so that it would be ignored")
def test_nothing_is_sent_over_a_connection_whose_tls_is_not_understood(
    keys: dict[str, Any], connections: Connections, plain: StrippingProxy
) -> None:
    connections.use({}, keys, port=plain.port)
    assert card().what == "connection 'tuning_db_admin' asks for TLS in a way that cannot be kept"
    assert plain.heard == b""


def test_the_form_of_airflows_own_hook_is_taken_as_before(tls_server: TlsServer, connections: Connections) -> None:
    connections.use({"ssl": {"ca": str(tls_server.authority.ca)}})
    given = tls_settings(BaseHook.get_connection(TUNING)).keys()
    assert given == tls_server.keys("VERIFY_IDENTITY")


def test_a_file_that_cannot_be_read_is_told(connections: Connections, tmp_path: Path) -> None:
    connections.use({"ssl_mode": "VERIFY_CA", "ssl_ca": f"{tmp_path}/missing.pem"})
    with pytest.raises(TlsError, match=r"ssl_ca /.*/missing.pem cannot be read on .* \(No such file or directory\)"):
        provision(settings())


@pytest.mark.parametrize("content", ["", "secret=1\n", "-----BEGIN CERTIFICATE-----\nsecret=1\n"])
def test_a_file_that_is_no_certificate_is_told_without_its_content(
    content: str, connections: Connections, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(content)
    connections.use({"ssl_mode": "VERIFY_CA", "ssl_ca": str(file)})
    with pytest.raises(TlsError, match="the PEM files hold no certificate") as caught:
        provision(settings())
    assert "secret" not in str(caught.value)


def on_databricks(ssl_ca: str | None = None) -> StudyFile:
    cluster = ClusterSettings(node_type="g4dn.xlarge")
    given = DatabricksSettings(files="/Volumes/a/b/c", database="external", cluster=cluster, ssl_ca=ssl_ca)
    settings = StudySettings(study="s", target="databricks", target_sections={"databricks": given})
    return StudyFile(Path("s.yaml"), {}, settings)


def test_a_cluster_gets_the_same_tls_with_its_own_paths(tls_server: TlsServer, connections: Connections) -> None:
    connections.use(tls_server.keys("VERIFY_IDENTITY"))
    url = sqlalchemy.make_url(str(passwordless_url(on_databricks(ssl_ca="/Volumes/a/b/c/ca.pem"))))
    assert dict(url.query) == {"ssl_mode": "VERIFY_IDENTITY", "ssl_ca": "/Volumes/a/b/c/ca.pem"}
    with pytest.raises(TaskError, match=r"and databricks.ssl_ca in the study file is not set: TLS to"):
        passwordless_url(on_databricks())
    connections.use({})
    with pytest.raises(TaskError, match=r"ssl_ca of connection 'tuning_db' is not set, and databricks.ssl_ca"):
        passwordless_url(on_databricks(ssl_ca="/Volumes/a/b/c/ca.pem"))


def test_a_clusters_path_must_be_one() -> None:
    with pytest.raises(SpecError, match="ssl_ca is for database external, and an absolute path on the cluster"):
        on_databricks(ssl_ca="ca.pem")
