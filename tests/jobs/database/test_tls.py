"""TLS to MySQL from the Spark side: engines, the writer's process and workers. Against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
import sqlalchemy as sa

from optuna_spark.database.connection import Database
from optuna_spark.database.mysql_connection import TlsConnection, connect
from optuna_spark.database.tls import TlsSettings
from optuna_spark.database.url import parse_url
from optuna_spark.driver.database_run import OpenedDatabaseRun
from optuna_spark.errors import StorageError, TlsError
from optuna_spark.sampling.open_study import open_study
from optuna_spark.shared_study.shared_run import SharedRun
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.storage.study_writer import StudyWriter
from optuna_spark.storage.writer_process import WriterProcess
from optuna_spark.trial_callback import NOBODY
from tests.support.coordination import new_database, run, spec_for
from tests.support.mysql_impostor import impostor
from tests.support.mysql_proxy import StrippingProxy, stripping_proxy
from tests.support.tls_server import OTHER_NAME, TlsServer

MODES = ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def url(tls_server: TlsServer) -> sa.URL:
    """An empty database of the server; nothing is said about TLS."""
    return new_database(tls_server.server)


@pytest.fixture
def stripped(tls_server: TlsServer) -> Iterator[StrippingProxy]:
    with stripping_proxy(tls_server.server.port) as proxy:
        yield proxy


def cipher(url: sa.URL) -> str:
    """What seals the connections that a storage's engine, and those that the writer, makes."""
    storage, database = create_storage(url), Database(url)
    with storage.engine.connect() as connection, database.transaction() as transaction:
        ((_, of_writer),) = transaction.run(("SHOW STATUS LIKE 'Ssl_cipher'", [()]))[0].rows
        of_engine = connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").one()[1]
    close_storage(storage)
    database.close()
    assert of_engine == of_writer
    return str(of_writer)


@every_mode
def test_engine_and_writer_seal_what_the_url_asks_for(mode: str, tls_server: TlsServer, url: sa.URL) -> None:
    assert cipher(url.update_query_dict(tls_server.keys(mode)))


def test_disabled_means_clear_text(url: sa.URL) -> None:
    assert not cipher(url.update_query_dict({"ssl_mode": "DISABLED"}))


def test_a_run_and_the_workers_of_coordination_database_work_over_tls(tls_server: TlsServer, url: sa.URL) -> None:
    sealed = url.update_query_dict(tls_server.keys("VERIFY_IDENTITY"))
    run(spec_for(trials=3), sealed)
    text = sealed.render_as_string(hide_password=False)
    driver = OpenedDatabaseRun(spec_for(coordination="database"), text, NOBODY)
    worker = SharedRun.open(spec_for(coordination="database"), text, "key")
    assert len(worker.study(None).trials) == 3
    worker.close()
    driver.close()


@every_mode
@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared before the Spark driver's engine")
def test_the_engine_says_nothing_when_the_offer_is_stripped(
    mode: str, tls_server: TlsServer, url: sa.URL, stripped: StrippingProxy
) -> None:
    with pytest.raises(TlsError, match="offers none; no password was sent: correct ssl_mode and ssl_ca"):
        create_storage(url.set(port=stripped.port).update_query_dict(tls_server.keys(mode)))
    assert stripped.stripped >= 1
    assert stripped.heard == b""


@every_mode
@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared before the process that writes trials")
def test_the_writers_process_says_nothing_when_the_offer_is_stripped(
    mode: str, tls_server: TlsServer, url: sa.URL, stripped: StrippingProxy
) -> None:
    keys = tls_server.keys(mode)
    storage = create_storage(url.update_query_dict(keys))
    open_study(spec_for(), storage)
    database = Database(url.set(port=stripped.port).update_query_dict(keys))
    process = WriterProcess(StudyWriter(storage, database, "study", "one"))
    try:
        with pytest.raises(pymysql.err.OperationalError, match="offers none; no password was sent"):
            process.write([], {"a": 1})
    finally:
        process.close()
        close_storage(storage)
    assert (stripped.stripped, stripped.heard) == (1, b"")


@every_mode
@pytest.mark.attack("TLS to MySQL", "the TLS bit cleared before a worker with coordination database")
def test_a_worker_says_nothing_when_the_offer_is_stripped(
    mode: str, tls_server: TlsServer, url: sa.URL, stripped: StrippingProxy
) -> None:
    sealed = url.update_query_dict(tls_server.keys(mode))
    spec = spec_for(coordination="database")
    OpenedDatabaseRun(spec, sealed.render_as_string(hide_password=False), NOBODY).close()
    with pytest.raises((TlsError, sa.exc.OperationalError), match="offers none; no password was sent"):
        SharedRun.open(spec, sealed.set(port=stripped.port).render_as_string(hide_password=False), "key")
    assert stripped.stripped >= 1
    assert stripped.heard == b""


@pytest.mark.parametrize("mode", ["VERIFY_CA", "VERIFY_IDENTITY"])
@pytest.mark.attack("TLS to MySQL", "a server of a stranger's authority, before the Spark driver")
def test_the_driver_trusts_its_own_authority_only(mode: str, tls_server: TlsServer, url: sa.URL) -> None:
    with pytest.raises(TlsError, match="self-signed certificate in certificate chain"):
        create_storage(url.update_query_dict(tls_server.wrong_authority(mode)))


@pytest.mark.attack("TLS to MySQL", "a server of the right authority under another name, before the Spark driver")
def test_a_certificate_for_another_name_is_refused(tls_server: TlsServer, url: sa.URL) -> None:
    elsewhere = url.set(host=OTHER_NAME)
    assert cipher(elsewhere.update_query_dict(tls_server.keys("VERIFY_CA")))
    with pytest.raises(TlsError, match="Hostname mismatch"):
        create_storage(elsewhere.update_query_dict(tls_server.keys("VERIFY_IDENTITY")))


def test_this_version_of_pymysql_still_asks_the_check_before_it_logs_in(
    tls_server: TlsServer, stripped: StrippingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TlsConnection leans on a step of PyMySQL that is not public; tests/plugins/database/test_tls.py has 1.1."""
    asked: list[int] = []
    original = TlsConnection._request_authentication

    def note(connection: TlsConnection) -> None:
        asked.append(connection.server_capabilities)  # type: ignore[attr-defined]  # not in the stubs
        original(connection)

    monkeypatch.setattr(TlsConnection, "_request_authentication", note)
    account: dict[str, Any] = {"user": tls_server.server.admin_user, "password": tls_server.server.admin_password}
    connect(TlsSettings("REQUIRED"), host="127.0.0.1", port=tls_server.server.port, **account).close()
    with pytest.raises(pymysql.err.OperationalError):
        connect(TlsSettings("REQUIRED"), host="127.0.0.1", port=stripped.port, **account)
    assert [bool(capabilities & 0x800) for capabilities in asked] == [True, False]


BASE = "mysql+pymysql://u:hidden@127.0.0.1/d"
WRONG = {
    f"{BASE}?ssl_mode=PREFERRED": "PREFERRED falls back to clear text",
    f"{BASE}?ssl_ca=/ca.pem": "ssl_ca need ssl_mode",
    f"{BASE}?ssl.mode=REQUIRED": r"'ssl.mode' is no key for TLS to MySQL: these are ssl_mode \(DISABLED",
    f"{BASE}?ssl_verify_cert=true": "'ssl_verify_cert' is no key",
    f"{BASE}?ssl_mode=REQUIRED&ssl_mode=DISABLED": "ssl_mode must be",
    "mysql+mysqldb://u:hidden@127.0.0.1/d?ssl_mode=REQUIRED": r"kept with mysql\+pymysql only, got mysql\+mysqldb",
    "sqlite:////tmp/x?ssl_mode=REQUIRED": r"kept with mysql\+pymysql only, got sqlite",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_url_whose_tls_cannot_be_kept_is_refused(text: str) -> None:
    with pytest.raises(StorageError, match=WRONG[text]) as caught:
        parse_url(text)
    assert "hidden" not in str(caught.value)


def test_a_url_by_hand_may_use_small_letters_and_the_short_name_of_the_driver(
    tls_server: TlsServer, url: sa.URL
) -> None:
    text = url.set(drivername="mysql").render_as_string(hide_password=False)
    assert cipher(sa.make_url(f"{text}?ssl_mode=verify_ca&ssl_ca={tls_server.authority.ca}"))


@pytest.mark.attack("TLS to MySQL", "somebody in the server's place who asks for the password itself", times=2)
@pytest.mark.parametrize("mode", [None, "DISABLED"])
def test_a_password_is_not_sent_to_whoever_asks_for_it(mode: str | None) -> None:
    with impostor() as stranger:
        account = {"host": "127.0.0.1", "port": stranger.port, "user": "tuning", "password": "not-for-you"}
        with pytest.raises(pymysql.err.OperationalError, match=r"mysql_clear_password.*it was not sent"):
            connect(TlsSettings(mode), **account)
    assert stranger.heard == b""
