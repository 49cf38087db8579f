"""No secret in plain text: what is refused, by name and by look, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from init.local.layout import REPOSITORY
from optuna_spark.spec.plain_secrets import find_secrets, is_secret_name
from tests.support.studies import study_reader
from tuning_pipeline.study_file.study_file import StudyFileError, read_study

STUDIES = REPOSITORY / "dags" / "studies"
# Made up; what they have of real ones is their form.
AWS_SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYzzzzzzzzKEY1"
AZURE_KEY = "Zm9v" * 21 + "Zg=="
PEM = "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBg\\n-----END PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqb2UifQ.c2lnbmF0dXJlLXNpZw"
HUSH = "hush-4711"

URL = "https://h.org/t.csv"
REFUSED: dict[str, Any] = {
    # data.path: a login, and signed queries of the three clouds
    "data.path": [
        f"https://joe:{HUSH}@h.org/t.csv",
        f"https://joe:{HUSH}/x@h.org/t.csv",
        f"https://{HUSH}@h.org/t.csv",
        f"s3a://AKIAABCDEFGHIJKLMNOP:{HUSH}@bucket/t.csv",
        f"{URL}?X-Amz-Algorithm=a&X-Amz-Signature={HUSH}",
        f"{URL}?X-Amz-Security-Token={HUSH}",
        f"{URL}?AWSAccessKeyId=x&Expires=1&Signature={HUSH}",
        f"https://a.blob.core.windows.net/c/t.csv?sv=2022-11-02&sr=b&sig={HUSH}",
        f"{URL}?GoogleAccessId=x&X-Goog-Signature={HUSH}",
        f"{URL}?token={HUSH}",
        f"{URL}?a=b&access_token={HUSH}",
        f"{URL}?api_key={HUSH}",
        f"jdbc:postgresql://h/db?user=a&password={HUSH}",
        f"jdbc:sqlserver://h:1433;user=a;password={HUSH};encrypt=true",
        f"jdbc:mysql://joe:{HUSH}@h/db",
        f"jdbc:oracle:thin:joe/{HUSH}@h:1521/x",
        f"jdbc:db2://h:50000/db:user=a;password={HUSH};",
        f"jdbc:teradata://h/PASSWORD={HUSH}",
    ],
    "data.format_options.password": [HUSH, 4711],
    "data.format_options.sfPassword": HUSH,
    "data.format_options.pem_private_key": HUSH,
    "data.format_options.credentials": "ewogICJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCIsCiAgInByaXZhdGVfa2V5X2lkIjogIjEi",
    "data.format_options.es.net.http.auth.pass": HUSH,
    "data.format_options.url": [f"jdbc:mysql://h/db?user=a&password={HUSH}", f"https://joe:{HUSH}@h"],
    "data.format_options.header": f"Bearer {HUSH}",
    "data.format_options.query": f"SELECT 1 -- {JWT}",
    "spark.conf.spark.hadoop.fs.azure.account.key.acct.dfs.core.windows.net": [AZURE_KEY, HUSH],
    "spark.conf.spark.hadoop.fs.azure.account.oauth2.client.secret.acct.dfs.core.windows.net": HUSH,
    "spark.conf.spark.hadoop.fs.azure.sas.box.acct.blob.core.windows.net": "sv=2022&sig=x",
    "spark.conf.spark.hadoop.fs.azure.sas.fixed.token.acct.dfs.core.windows.net": HUSH,
    "spark.conf.spark.hadoop.fs.s3a.access.key": HUSH,
    "spark.conf.spark.hadoop.fs.s3a.secret.key": HUSH,
    "spark.conf.spark.hadoop.fs.s3a.session.token": HUSH,
    "spark.conf.spark.hadoop.google.cloud.auth.service.account.private.key": PEM,
    "spark.conf.spark.ssl.keyStorePassword": HUSH,
    "spark.conf.spark.authenticate.secret": HUSH,
    "spark.conf.spark.sql.catalog.unity.token": HUSH,
    "spark.conf.spark.executorEnv.AWS_SECRET_ACCESS_KEY": HUSH,
    "spark.conf.spark.driver.extraJavaOptions": [
        f"-Xss4m -Djavax.net.ssl.trustStorePassword={HUSH}",
        f"-Djavax.net.ssl.keyStorePassword='{HUSH}'",
        f"-Dapi.token={HUSH}",
    ],
    "spark.conf.spark.x.a": [
        AWS_SECRET, AZURE_KEY, PEM, JWT, f"Basic {HUSH}", "AKIAABCDEFGHIJKLMNOP", "dapi" + "0" * 32,
    ],
    "spark.conf.spark.x.b": f'{{"client_secret": "{HUSH}"}}',
    "spark.archives": [[f"https://joe:{HUSH}@h.org/e.zip#e"], [f"{URL}?sig={HUSH}"]],
    "databricks.cluster.spark_conf.spark.my.password": HUSH,
    "databricks.cluster.env.API_TOKEN": HUSH,
    "databricks.cluster.env.PIP_EXTRA_INDEX_URL": f"https://joe:{HUSH}@h.org/simple",
    "databricks.cluster.extra": {"docker_image": {"basic_auth": {"username": "u", "password": HUSH}}},
    "exports": f"s3://joe:{HUSH}@bucket/x",
    "retune.assets": [[f"https://joe:{HUSH}@h.org/x"]],
    "description": [f"see https://joe:{HUSH}@h.org", PEM, "ghp_" + "a1" * 18],
    "sampler.args.x": [PEM, JWT],
    "xgboost.fixed.x": [f"https://joe:{HUSH}@h.org", JWT],
    "enqueue": [[{"x": PEM}]],
    "connections.spark": f"spark://joe:{HUSH}@h",
}  # fmt: skip

ACCEPTED: dict[str, Any] = {
    "data.path": [
        URL, "s3a://bucket/year=2026/token=1/t.parquet", "s3://conn@bucket/t.csv", "/data/password.csv",
        "abfss://box@acct.dfs.core.windows.net/t.parquet", "wasbs://box@acct.blob.core.windows.net/t",
        "sklearn:wine", "main.sales.tokens", "https://h.org:8443/a@b.csv", "https://[::1]:80/t@x.csv",
        f"{URL}?version=2&signature_version=1", "hdfs://a:8020/t.csv", "file:/a:b@c",
    ],
    "data.label": ["password", "token", "secret=1"],
    "data.sha256": "4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
    "data.format_options.user": "joe",
    "data.format_options.url": "jdbc:postgresql://h:5432/db?user=joe&sslmode=require",
    "data.format_options.dbtable": "tokens",
    "data.format_options.tokenizer": "x",
    "data.format_options.maxTokens": 5,
    "data.format_options.password": "{{secrets/scope/key}}",
    "data.format_options.header": True,
    "data.format_options.inferSchema": "true",
    "spark.conf.spark.ui.enabled": False,
    "spark.conf.spark.authenticate": True,
    "spark.conf.spark.authenticate.secret.file": "/run/secret",
    "spark.conf.spark.authenticate.secretBitLength": 256,
    "spark.conf.spark.ssl.keyStore": "/etc/keys.jks",
    "spark.conf.spark.ssl.keyStoreType": "PKCS12",
    "spark.conf.spark.redaction.regex": "(?i)secret|password",
    "spark.conf.spark.security.credentials.hive.enabled": "false",
    "spark.conf.spark.kerberos.renewal.credentials": "ccache",
    "spark.conf.spark.io.encryption.keySizeBits": 256,
    "spark.conf.spark.hadoop.fs.s3a.aws.credentials.provider": "com.amazonaws.auth.InstanceProfileCredentialsProvider",
    "spark.conf.spark.hadoop.hadoop.security.credential.provider.path": "jceks://hdfs@nn/a.jceks",
    "spark.conf.spark.hadoop.fs.s3a.encryption.key": "arn:aws:kms:eu-west-1:1:key/4711",
    "spark.conf.spark.hadoop.fs.s3a.secret.key": "${env.S3_SECRET}",
    "spark.conf.spark.hadoop.fs.azure.sas.token.provider.type.acct.dfs.core.windows.net": "org.x.Provider",
    "spark.conf.spark.hadoop.fs.azure.account.oauth2.client.endpoint.a": "https://login.x.com/tenant/oauth2/token",
    "spark.conf.spark.hadoop.google.cloud.auth.service.account.private.key.id": "0123456789abcdef0123",
    "spark.conf.spark.x.sha1": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "spark.conf.spark.driver.extraJavaOptions": "-Xss4m -Djavax.net.ssl.trustStore=/etc/t.jks -XX:TieredStopAtLevel=1",
    "spark.conf.spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.archives": [["https://h.org/environment.tar.gz#environment"]],
    "databricks.cluster.env.API_TOKEN": "{{secrets/tuning/token}}",
    "databricks.cluster.env.TOKENIZERS_PARALLELISM": "false",
    "databricks.cluster.spark_conf.spark.my.password": "{{secrets/tuning/password}}",
    "databricks.cluster.extra": {"aws_attributes": {"instance_profile_arn": "arn:aws:iam::1:instance-profile/x"}},
    "databricks.secret_key": "database-password",
    "exports": ["s3://conn@bucket/exports", "/mnt/secret/exports"],
    "description": ["Predicts whether token=1; the password column is the label", "write to joe@h.org: thanks"],
    "search_space": {"tokenizer": {"type": "categorical", "choices": ["bpe", "token=cls"]}},
    "sampler.args.token": "x",
    "xgboost.fixed.booster": "dart",
    "tags": [["secret santa"]],
    "retune.assets": [["s3://bucket/t.parquet"]],
}  # fmt: skip


def cases(table: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, value) for key, given in table.items() for value in (given if isinstance(given, list) else [given])]


def document(key: str, value: object) -> dict[str, Any]:
    """A document with one entry; option names hold dots of their own."""
    sections = ("data.format_options", "spark.conf", "databricks.cluster.spark_conf", "databricks.cluster.env")
    section = next((s for s in sections if key.startswith(f"{s}.")), None)
    parts = [*section.split("."), key.removeprefix(f"{section}.")] if section else key.split(".")
    for part in reversed(parts):
        value = {part: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.attack("data sources", "a secret in plain text in a study file", times=len(cases(REFUSED)))
def test_secrets_in_plain_text_are_refused_and_never_quoted(tmp_path: Path) -> None:
    read = study_reader(tmp_path)
    for key, value in cases(REFUSED):
        with pytest.raises(StudyFileError) as caught:
            read(yaml.safe_dump(document(key, value)))
        message = str(caught.value)
        assert f": {key}" in message, (key, value, message)
        assert "others can read what a study file or form says" in message, message
        texts = [HUSH, AWS_SECRET, AZURE_KEY, "MIIEvQ", "eyJzdWIi", "4711", "sig=x", "ghp_", "dapi", "AKIA", "ewogICJ0"]
        assert not [text for text in texts if text in message], message


def test_what_only_sounds_like_a_secret_is_accepted() -> None:
    for key, value in cases(ACCEPTED):
        assert list(find_secrets(document(key, value))) == [], (key, value)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_repositorys_studies_hold_none(path: Path) -> None:
    assert list(find_secrets(read_study(path).document)) == []


@pytest.mark.attack("data sources", "a secret in plain text in a run's form", times=4)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.path", f"https://joe:{HUSH}@h.org/t.csv"),
        ("data.path", f"{URL}?X-Amz-Signature={HUSH}"),
        ("spark.conf", {"spark.hadoop.fs.s3a.secret.key": HUSH}),
        ("sampler.args", {"x": PEM}),
    ],
)
def test_a_form_is_checked_like_a_file(tmp_path: Path, key: str, value: object) -> None:
    study = study_reader(tmp_path)("data: {path: /t.csv}\n")
    with pytest.raises(StudyFileError, match="others can read what a study file or form says") as caught:
        study.changed({key: value})
    assert HUSH not in str(caught.value)
    assert "MIIEvQ" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("data: {path: x, format_options: {password: x1}}", "name that one in data.connection"),
        ("spark: {conf: {spark.ssl.keyPassword: x1}}", "name that one in spark.conf_connection"),
        ("exports: 's3://a:b1@c/d'", "s3://<connection>@<bucket>/<folder>"),
        ("databricks: {cluster: {env: {A_TOKEN: x1}}}", "give it as {{secrets/<scope>/<key>}}"),
        ("target: databricks\nspark: {conf: {spark.a.token: x1}}", "give it as {{secrets/<scope>/<key>}}"),
    ],
)
def test_the_way_that_works_is_named(tmp_path: Path, text: str, way: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        study_reader(tmp_path)(text)
    assert way in str(caught.value)


def test_a_value_of_another_type_is_not_quoted_before_it_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError) as caught:
        study_reader(tmp_path)(f"data: 'https://joe:{HUSH}@h.org/t.csv'\n")
    assert HUSH not in str(caught.value)


def test_a_secret_in_a_key_is_not_quoted_either(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError) as caught:
        study_reader(tmp_path)(f"spark: {{conf: {{'https://joe:{HUSH}@h.org': 1}}}}\n")
    assert HUSH not in str(caught.value)
    assert "spark.conf: a key in it holds a password in an address" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["trustStorePassword", "fs.azure.account.key.a.net", "X-Amz-Signature", "clientSecret"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["tokenizer", "maxTokens", "secret.file", "passwordFile", "primaryKey", "design"])
def test_names_that_only_sound_like_it(name: str) -> None:
    assert not is_secret_name(name)
