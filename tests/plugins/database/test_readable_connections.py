"""A connection that Airflow has and that cannot be used is one sentence, at the first look and without its content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from airflow.sdk import Connection

from init.local.mysql import MysqlServer
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.proxy import Proxy
from tuning_pipeline.database.connections import database_connection, find_connection, require_connection, storage_url
from tuning_pipeline.database.provision import provision
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.keys.study_keys import DatabaseSettings
from tuning_pipeline.study_file.settings import StudySettings
from tuning_pipeline.targets.standalone.cluster import check_cluster

VARIABLE = "AIRFLOW_CONN_TUNING_DB"
FIELDS = {"conn_type": "mysql", "host": "h", "login": "u", "password": "hush-hush", "schema": "d"}


def told(text: str, patch: pytest.MonkeyPatch) -> Failure:
    patch.setenv(VARIABLE, text)
    with pytest.raises(TaskError) as caught:
        database_connection(TUNING)
    failure = caught.value.failure
    assert not failure.retry
    assert "hush" not in repr(failure)
    return failure


UNREADABLE = {
    '{"conn_type": "mysql", "password": "hush-hush",}': "it is no JSON from line 1, column ",
    "{'conn_type': 'mysql', 'password': 'hush-hush'}": "it is no JSON from line 1, column 2 on",
    json.dumps(FIELDS | {"port": "abc"}): "its port must be a number from 1 to 65535, got 'abc'",
    json.dumps(FIELDS | {"host": 5}): "its host must be a text, in quotes",
    json.dumps(FIELDS | {"password": ["hush"]}): "its password must be a text, in quotes",
    json.dumps(FIELDS | {"port": [1]}): "its JSON holds a key or a kind of value that a connection does not have",
    json.dumps(FIELDS | {"user": "hush"}): "its JSON holds a key or a kind of value that a connection does not have",
    "mysql://u:hush-hush@h:abc/d": "it is neither JSON in braces nor a URI of which each part is quoted",
    "mysql://u:hush/hush@h:3306/d": "it is neither JSON in braces nor a URI of which each part is quoted",
    "mysql://u:hush@[::1/d": "it is neither JSON in braces nor a URI of which each part is quoted",
}


@pytest.mark.parametrize(("text", "why"), UNREADABLE.items())
def test_a_connection_that_airflow_cannot_read_is_not_called_missing(
    text: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = told(text, monkeypatch)
    assert failure.what == f"Airflow cannot read connection 'tuning_db' in the environment variable {VARIABLE}"
    assert failure.why.startswith(why)
    assert failure.next.startswith("Correct it: ")


UNUSABLE: dict[str, dict[str, Any]] = {
    "its extra must be a JSON object, and is a list": {"extra": [1]},
    "its extra must be a JSON object, and is a text": {"extra": '"hush"'},
    "its extra must be a JSON object, and is a number": {"extra": "5"},
    "its extra must be a JSON object, and is null": {"extra": "null"},
    "its extra must be a JSON object, and is true or false": {"extra": "true"},
    "its extra is no JSON from line 1, column 2 on": {"extra": "{ssl_mode: REQUIRED, password: hush}"},
    "its port must be a number from 1 to 65535, got 70000": {"port": 70000},
    "its port must be a number from 1 to 65535, got -1": {"port": -1},
}


@pytest.mark.parametrize(("problem", "fields"), UNUSABLE.items(), ids=UNUSABLE)
def test_a_connection_with_a_field_of_another_kind_is_told(
    problem: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = told(json.dumps(FIELDS | fields), monkeypatch)
    assert failure.what == f"connection 'tuning_db' cannot be used: {problem}"
    assert failure.next


@pytest.mark.parametrize("extra", [[1], "{x"])
def test_an_extra_that_should_open_data_is_told_as_well(extra: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "lake", conn_type="generic", extra=extra)
    with pytest.raises(TaskError, match="connection 'lake' cannot be used: its extra"):
        require_connection("lake", "spark.conf_connection", everything=True)


def test_no_connection_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert find_connection(TUNING) is None
    with pytest.raises(TaskError, match="Airflow has no connection 'tuning_db'"):
        database_connection(TUNING)


@pytest.mark.parametrize("extra", ["", "  ", None, {}, {"ssl_mode": "DISABLED"}])
def test_an_empty_extra_and_a_good_one_are_taken(extra: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, TUNING, **FIELDS, extra=extra)
    assert database_connection(TUNING).login == "u"


@pytest.fixture
def sixth_version(mysql_server: MysqlServer) -> Iterator[Proxy]:
    through = Proxy(mysql_server.port, "::1")
    yield through
    through.close()


@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_a_server_is_reached_over_ipv6(
    host: str, sixth_version: Proxy, mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna_spark.storage.optuna_storage import create_storage

    place = {"host": host, "port": sixth_version.port}
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server) | place)
    fields = tuning_fields(mysql_server, schema="optuna_six", login="six") | place
    set_connection(monkeypatch, TUNING, **fields)
    made = provision(StudySettings(study="s", database=DatabaseSettings(wait_s=5)))
    assert made["server"] == f"[::1]:{sixth_version.port}"
    url = storage_url(database_connection(TUNING))
    assert f"@[::1]:{sixth_version.port}/optuna_six" in url.render_as_string()
    storage = create_storage(url.render_as_string(hide_password=False))
    storage.remove_session()
    storage.engine.dispose()
    admin = pymysql.connect(
        host=mysql_server.host, port=mysql_server.port, user=mysql_server.admin_user,
        password=mysql_server.admin_password,
    )  # fmt: skip
    with admin, admin.cursor() as cursor:
        cursor.execute("DROP DATABASE optuna_six")
        cursor.execute("DROP USER six@'127.0.0.1'")


def test_a_spark_master_whose_address_cannot_be_told_from_its_port_is_told() -> None:
    with pytest.raises(TaskError, match=r"names the Spark master spark://::1:7077, whose host cannot be read"):
        check_cluster(Connection(conn_id="c", conn_type="spark", host="spark://::1", port=7077))
    with pytest.raises(TaskError, match=r"no Spark master answers at spark://\[::1\]:1"):
        check_cluster(Connection(conn_id="c", conn_type="spark", host="spark://[::1]", port=1))
