"""The connections a study file names for secrets: what they become, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optuna_spark.spec.run_secrets import DataSecrets, RunSecrets, TrackingSecrets
from tests.support.connections import set_connection
from tests.support.studies import study_reader
from tuning_pipeline.database.secret_connections import run_secrets
from tuning_pipeline.failures import TaskError
from tuning_pipeline.study_file.form import possible_fields
from tuning_pipeline.study_file.study_file import StudyFileError
from tuning_pipeline.targets.standalone.submission import submission

HUSH = "hush-4711"
URL = f"objective: xgboost\ndata: {{path: 'https://h.org/t.csv', sha256: {'a' * 64}, connection: lake}}\n"
SPARK_READS = "objective: xgboost\ndistribution: dataframe\ndata: {{path: '{}', format: {}, connection: lake}}\n"
TRACKED = "objective: quadratic\ntracking: {mlflow: my_mlflow}\n"
CONF = "spark: {conf_connection: codes, conf: {spark.a: 1}}\n"

Connect = Callable[..., None]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    return lambda conn_id, **fields: set_connection(monkeypatch, conn_id, **fields)


def secrets(folder: Path, text: str) -> RunSecrets | None:
    return run_secrets(study_reader(folder)(text).settings)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(TaskError) as caught:
        secrets(folder, text)
    assert HUSH not in str(caught.value.failure)
    return caught.value.failure.what


def test_a_study_that_names_none_has_no_secrets(tmp_path: Path) -> None:
    assert secrets(tmp_path, "objective: quadratic\n") is None


def test_a_login_becomes_the_header_of_a_request(tmp_path: Path, connect: Connect) -> None:
    connect("lake", conn_type="http", host="h.org", login="joe", password=HUSH)
    header = "Basic " + base64.b64encode(f"joe:{HUSH}".encode()).decode()
    assert secrets(tmp_path, URL) == RunSecrets(DataSecrets(header))
    connect("lake", conn_type="http", host="https://h.org", port=443, password=HUSH)
    assert secrets(tmp_path, URL) == RunSecrets(DataSecrets(f"Bearer {HUSH}"))


@pytest.mark.parametrize("place", [{}, {"host": "other.org"}, {"host": "h.org", "port": 8443}])
@pytest.mark.attack("data sources", "a connection's login sent to another server", times=3)
def test_a_login_goes_to_its_own_server_only(tmp_path: Path, connect: Connect, place: dict[str, Any]) -> None:
    connect("lake", conn_type="http", login="joe", password=HUSH, **place)
    assert "must have host h.org and the port of data.path" in refusal(tmp_path, URL)


@pytest.mark.parametrize("change", [{"data.path": "https://evil.org/t.csv"}, {"data.format": "parquet"}])
@pytest.mark.attack("data sources", "a run's form that sends a login elsewhere", times=2)
def test_a_run_cannot_move_what_a_connection_opens(tmp_path: Path, change: dict[str, str]) -> None:
    study = study_reader(tmp_path)(URL)
    with pytest.raises(StudyFileError, match="cannot be changed for a run, since"):
        study.changed(change)
    assert study.changed({"data.path": "https://h.org/t.csv", "data.label": "y"}).settings.data is not None


def test_no_connection_is_a_field_of_the_form(tmp_path: Path) -> None:
    study = study_reader(tmp_path)(URL + CONF)
    assert not [field.key for field in possible_fields(study.settings) if "connection" in field.key]


def test_sparks_reader_gets_login_and_extra_as_options(tmp_path: Path, connect: Connect) -> None:
    url = f"jdbc:postgresql://h/db?password={HUSH}"
    extra = {"url": url, "fetchsize": 100, "pushDownLimit": True}
    connect("lake", conn_type="postgres", login="joe", password=HUSH, extra=extra)
    found = secrets(tmp_path, SPARK_READS.format("sales", "jdbc"))
    assert found is not None
    options = {"user": "joe", "password": HUSH, "url": url, "fetchsize": "100", "pushDownLimit": "true"}
    assert found == RunSecrets(DataSecrets(options=options))


def test_object_stores_get_hadoops_configuration(tmp_path: Path, connect: Connect) -> None:
    extra = {"aws_session_token": HUSH, "region_name": "eu-west-1"}
    connect("lake", conn_type="aws", login="id", password=HUSH, extra=extra)
    bucket = "spark.hadoop.fs.s3a.bucket.box"
    assert secrets(tmp_path, SPARK_READS.format("s3a://box/t.parquet", "parquet")) == RunSecrets(
        conf={
            f"{bucket}.access.key": "id",
            f"{bucket}.secret.key": HUSH,
            f"{bucket}.session.token": HUSH,
            f"{bucket}.endpoint.region": "eu-west-1",
        }
    )
    connect("lake", conn_type="wasb", login="acct", password=HUSH)
    host = "acct.dfs.core.windows.net"
    assert secrets(tmp_path, SPARK_READS.format(f"abfss://box@{host}/t.parquet", "parquet")) == RunSecrets(
        DataSecrets(store={"account_key": HUSH}), {f"spark.hadoop.fs.azure.account.key.{host}": HUSH}
    )


STORE = "objective: xgboost\ndata: {{path: '{}', connection: lake}}\n"
AMAZON = {"conn_type": "aws", "login": "id", "password": HUSH}
AZURE = "abfss://box@acct.dfs.core.windows.net/t.csv"


def test_workers_get_the_keys_of_a_store(tmp_path: Path, connect: Connect) -> None:
    extra = {"aws_session_token": HUSH, "region_name": "eu-west-1", "endpoint_url": "https://minio.example.org"}
    connect("lake", **AMAZON, extra=extra)
    keys = {"access_key": "id", "secret_key": HUSH, "session_token": HUSH, "region": "eu-west-1"}
    keys |= {"endpoint_url": "https://minio.example.org"}
    for path in ("s3://box/t.csv", "s3a://box/t.csv"):
        assert secrets(tmp_path, STORE.format(path)) == RunSecrets(DataSecrets(store=keys))


AZURES: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"password": HUSH}, {"account_key": HUSH}),
    ({"extra": {"sas_token": HUSH}}, {"sas_token": HUSH}),
    (
        {"login": "app", "password": HUSH, "extra": {"tenant_id": "t"}},
        {"client_id": "app", "client_secret": HUSH, "tenant_id": "t"},
    ),
]


@pytest.mark.parametrize("kind", ["wasb", "adls"])
@pytest.mark.parametrize(("fields", "keys"), AZURES)
def test_workers_get_what_opens_azure(
    tmp_path: Path, connect: Connect, kind: str, fields: dict[str, Any], keys: dict[str, str]
) -> None:
    connect("lake", conn_type=kind, **fields)
    assert secrets(tmp_path, STORE.format(AZURE)) == RunSecrets(DataSecrets(store=keys))


def test_with_dataframe_arrow_and_spark_get_the_keys(tmp_path: Path, connect: Connect) -> None:
    connect("lake", **AMAZON)
    found = secrets(tmp_path, SPARK_READS.format("s3://box/t.csv", "csv"))
    conf = {"spark.hadoop.fs.s3a.bucket.box.access.key": "id", "spark.hadoop.fs.s3a.bucket.box.secret.key": HUSH}
    assert found == RunSecrets(DataSecrets(store={"access_key": "id", "secret_key": HUSH}), conf)


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("s3://b/t", {"conn_type": "aws"}, "has no access key (login)"),
        (AZURE, AMAZON, "is of type aws, for s3:// or s3a://, and data.path is another"),
        ("s3://b/t", {"conn_type": "wasb", "password": HUSH}, "is of type wasb, for abfss://"),
        (AZURE, {"conn_type": "wasb"}, "has no password, which is the account key"),
        (AZURE, {"conn_type": "wasb", "password": HUSH, "extra": {"tenant_id": "t"}}, "a tenant_id and no login"),
        ("gs://b/t", {"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": HUSH}}, "remove data.connection"),
        ("s3://b/t", {"conn_type": "http", "password": HUSH}, "which opens no object store: give it type aws"),
        ("s3://b/t", AMAZON | {"extra": {"endpoint_url": "http://minio.org"}}, "endpoint_url in its extra, which must"),
        ("s3://b/t", AMAZON | {"extra": {"endpoint_url": f"https://x:{HUSH}@m.org"}}, "without a login"),
    ],
)
@pytest.mark.attack("data sources", "a connection that would send a store's keys elsewhere", times=9)
def test_a_connection_that_opens_no_such_store_is_refused(
    tmp_path: Path, connect: Connect, path: str, fields: dict[str, Any], message: str
) -> None:
    connect("lake", **fields)
    assert message in refusal(tmp_path, STORE.format(path))


def test_spark_properties_come_from_the_extra(tmp_path: Path, connect: Connect) -> None:
    connect("codes", conn_type="generic", extra={"spark.ssl.keyPassword": HUSH, "spark.x": True, "spark.y": 7})
    assert secrets(tmp_path, CONF) == RunSecrets(
        conf={"spark.ssl.keyPassword": HUSH, "spark.x": "true", "spark.y": "7"}
    )


BAD: list[tuple[str, str, dict[str, Any] | None, str]] = [
    (URL, "lake", None, "Airflow has no connection 'lake' (data.connection)"),
    (URL, "lake", {"host": "h.org", "login": "joe"}, "'lake' has no password"),
    (SPARK_READS.format("t", "jdbc"), "lake", {"host": "h"}, "'lake' holds nothing that opens data.path"),
    (SPARK_READS.format("t", "jdbc"), "lake", {"extra": {"a": {"b": HUSH}}}, "an extra a that is no text"),
    (SPARK_READS.format("s3a://b/t", "csv"), "lake", {"conn_type": "aws"}, "has no access key (login)"),
    (
        SPARK_READS.format("/t", "csv"),
        "lake",
        {"conn_type": "aws", "login": "x", "password": HUSH},
        "is of type aws, for s3a:// or s3://, and data.path is another",
    ),
    (
        SPARK_READS.format("t", "jdbc").replace("}", ", format_options: {User: x}}"),
        "lake",
        {"login": "joe", "password": HUSH},
        "both set reader option user",
    ),
    (CONF, "codes", None, "Airflow has no connection 'codes' (spark.conf_connection)"),
    (CONF, "codes", {"password": HUSH}, "must hold Spark properties in its extra"),
    (CONF, "codes", {"extra": {"fs.s3a.secret.key": HUSH}}, "holds fs.s3a.secret.key, which is no Spark property"),
    (CONF, "codes", {"extra": {"spark.a": HUSH}}, "'codes' and spark.conf both set Spark property spark.a"),
    (CONF, "codes", {"extra": {"spark.x": [HUSH]}}, "holds spark.x, which is no text"),
    (CONF, "codes", {"extra": {"spark.master": HUSH}}, "which is set by the Spark connection"),
    (CONF, "codes", {"extra": {"spark.executor.extraJavaOptions": f"-Da.b={HUSH}"}}, "stand in the process list"),
    (CONF, "codes", {"extra": {"spark.jars.repositories": f"https://a:{HUSH}@h"}}, "spark-submit reads before"),
]


@pytest.mark.parametrize(("text", "conn_id", "fields", "message"), BAD)
def test_a_connection_that_does_not_fit_is_one_sentence(
    tmp_path: Path, connect: Connect, text: str, conn_id: str, fields: dict[str, Any] | None, message: str
) -> None:
    if fields is not None:
        connect(conn_id, **{"conn_type": "generic"} | fields)
    assert message in refusal(tmp_path, text)


def masker() -> Callable[[str], object]:
    """What a task's log passes through; Airflow gives it no public name."""
    from airflow.sdk import log

    redact: Callable[[str], object] = vars(log)["redact"]
    return redact


@pytest.mark.attack("data sources", "secrets of connections looked for in a task's log", times=7)
def test_what_connections_hold_is_masked(tmp_path: Path, connect: Connect) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEhushhushhush\n-----END PRIVATE KEY-----"
    connect("lake", conn_type="http", host="h.org", login="joe", password="mask me/1")
    connect("codes", conn_type="generic", extra={"spark.x": "mask-me-2", "spark.key": key, "spark.on": "true"})
    secrets(tmp_path, URL + CONF)
    header = base64.b64encode(b"joe:mask me/1").decode()
    redact = masker()
    for text in ("mask me/1", "mask%20me%2F1", header, "mask-me-2", key, "MIIEhushhushhush"):
        assert text not in str(redact(f"seen: {text}!"))
    connect("lake", conn_type="jdbc", extra={"sfPassword": "mask-me-3", "dbtable": "a_table"})
    secrets(tmp_path, SPARK_READS.format("t", "jdbc"))
    assert redact("a_table mask-me-3 true") == "a_table *** true"


def test_what_is_submitted_names_the_file_only(tmp_path: Path) -> None:
    given = study_reader(tmp_path)(URL + CONF)
    made = submission(given, given.to_spec("r"), Path("/p.zip"), Path("/s.json"), Path("/secrets.json"))
    assert made.application_args == ["--spec-file", "/s.json", "--secrets-file", "/secrets.json"]
    assert not [name for name in made.conf if "codes" in name]


DATABRICKS = "target: databricks\ndatabricks: {files: /Volumes/a/b/c, cluster: {node_type: n}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DATABRICKS + URL, "data.connection is for target standalone; on Databricks give it as {{secrets/"),
        (DATABRICKS + CONF, "spark.conf_connection is for target standalone; on Databricks give it as {{secrets/"),
        ("spark: {conf: {spark.a.token: '{{secrets/a/b}}'}}\n", "which only Databricks resolves"),
        (
            "data: {path: t, format_options: {password: '{{secrets/a/b}}'}}\ndistribution: dataframe\n",
            "password is given as {{secrets/...}}, which only Databricks resolves",
        ),
        ("data: {path: 'https://h.org/t.csv', sha256: " + "a" * 64 + ", connection: 'a b'}\n", "must be the id of"),
    ],
)
def test_a_place_that_does_not_fit_the_target_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        study_reader(tmp_path)(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("place", "uri"),
    [
        ({"host": "mlflow.org", "schema": "https"}, "https://mlflow.org"),
        ({"host": "https://mlflow.org/a/", "port": 8443}, "https://mlflow.org:8443/a"),
        ({"host": "127.0.0.1", "port": 5000}, "http://127.0.0.1:5000"),
        ({"host": "http://[::1]:5000"}, "http://[::1]:5000"),
    ],
)
def test_an_mlflow_server_is_its_address_and_a_login_or_a_token(
    tmp_path: Path, connect: Connect, place: dict[str, Any], uri: str
) -> None:
    connect("my_mlflow", conn_type="http", login="joe", password=HUSH, **place)
    assert secrets(tmp_path, TRACKED) == RunSecrets(tracking=TrackingSecrets(uri, "joe", HUSH))
    connect("my_mlflow", conn_type="http", password=HUSH, **place)
    found = secrets(tmp_path, TRACKED)
    assert found == RunSecrets(tracking=TrackingSecrets(uri, "", HUSH))
    assert HUSH not in repr(found)
    assert found is not None
    assert HUSH in found.to_json()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "must have the address of an MLflow server as host"),
        ({"host": "ftp://mlflow.org"}, "must have the address of an MLflow server as host"),
        ({"host": f"https://joe:{HUSH}@mlflow.org"}, "must have the address of an MLflow server as host"),
        ({"host": "mlflow.org", "password": HUSH}, "needs an https:// host: anyone on the way reads its password"),
        ({"host": "https://mlflow.org", "login": "joe"}, "has a login without password"),
    ],
)
@pytest.mark.attack("data sources", "MLflow's token sent where others read it")
def test_an_mlflow_connection_that_tells_its_login_or_leads_nowhere_is_refused(
    tmp_path: Path, connect: Connect, fields: dict[str, Any], problem: str
) -> None:
    connect("my_mlflow", conn_type="http", **fields)
    assert problem in refusal(tmp_path, TRACKED)


def test_a_run_cannot_say_where_trials_are_mirrored_to(tmp_path: Path) -> None:
    study = study_reader(tmp_path)(TRACKED)
    assert not [field.key for field in possible_fields(study.settings) if "tracking" in field.key]


def test_databricks_refuses_a_mirror_that_it_would_not_fill(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="tracking is for target standalone"):
        study_reader(tmp_path)(TRACKED + "target: databricks\ndatabricks: {files: /Volumes/a/b/c/d}\n")
