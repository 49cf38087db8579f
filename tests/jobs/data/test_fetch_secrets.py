"""Tables that need a login: fetched over TLS by workers, and the login goes nowhere else."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest

from optuna_spark.data.sources import local_file
from optuna_spark.distribution.spark_session import REDACTION_RULE, redaction
from optuna_spark.driver.run import tune
from optuna_spark.errors import DataError, SpecError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets, RunSecrets, take_secrets
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.payload import WorkerPayload
from tests.support.https import SecureSite, secure_site, site_certificate

HUSH = "hush-4711"
BASIC = "Basic " + base64.b64encode(f"joe:{HUSH}".encode()).decode()
TEXT = "".join(f"{i},{i % 7},{3 * i}\n" for i in range(100)).join(["a,b,y\n", ""]).encode()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNING_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    file = site_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return file


@pytest.fixture
def site(certificate: Path) -> Iterator[SecureSite]:
    with secure_site(certificate) as site:
        site.files["/t.csv"] = TEXT
        site.logins.add(BASIC)
        yield site


def table(site: SecureSite, path: str = "/t.csv", **changes: Any) -> DataSpec:
    given = {"sha256": hashlib.sha256(TEXT).hexdigest(), "connection": "lake"} | changes
    return DataSpec(site.url(path), **given)


def test_a_table_behind_a_login_is_fetched(site: SecureSite) -> None:
    assert local_file(table(site), DataSecrets(BASIC)).read_bytes() == TEXT
    assert site.seen == [("/t.csv", BASIC)]


def test_a_login_that_is_refused_is_one_sentence_without_it(site: SecureSite) -> None:
    with pytest.raises(DataError, match="refuses the login of connection 'lake'") as caught:
        local_file(table(site), DataSecrets("Bearer wrong-token"))
    assert "wrong-token" not in str(caught.value)
    assert "wrong-token" not in str(caught.value.__cause__)


@pytest.mark.attack("data sources", "a data server that sends the login on to another")
def test_a_redirection_elsewhere_gets_no_login(site: SecureSite, certificate: Path) -> None:
    with secure_site(certificate) as other:
        other.files["/t.csv"] = TEXT
        site.redirects["/moved.csv"] = other.url("/t.csv")
        with pytest.raises(DataError, match="refuses the login"):
            local_file(table(site, "/moved.csv"), DataSecrets(BASIC))
        assert site.seen == [("/moved.csv", BASIC)]
        assert other.seen == [("/t.csv", None)]


def test_a_redirection_on_the_same_server_keeps_it(site: SecureSite) -> None:
    site.redirects["/moved.csv"] = "/t.csv"
    assert local_file(table(site, "/moved.csv"), DataSecrets(BASIC)).read_bytes() == TEXT
    assert site.seen == [("/moved.csv", BASIC), ("/t.csv", BASIC)]


@pytest.mark.attack("data sources", "a data server with another certificate")
def test_a_server_nobody_vouches_for_gets_no_login(
    site: SecureSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(site_certificate(tmp_path / "other")))
    with pytest.raises(DataError, match="CERTIFICATE_VERIFY_FAILED"):
        local_file(table(site), DataSecrets(BASIC))
    assert site.seen == []


@pytest.mark.parametrize("url", ["http://h.org/t.csv", "ftp://h.org/t.csv"])
@pytest.mark.attack("data sources", "a login sent in clear text", times=2)
def test_a_login_needs_tls(url: str) -> None:
    with pytest.raises(SpecError, match="connection needs an https:// URL"):
        DataSpec(url, sha256="0" * 64, connection="lake")


@pytest.mark.parametrize(
    ("data", "distribution", "rule"),
    [
        ({"path": "/t.csv"}, "rdd", "opens https:// URLs and object stores only"),
        ({"path": "https://h.org/t.csv", "sha256": "0" * 64}, "dataframe", "needs distribution rdd or joblib"),
        ({"path": "a.b", "format": "table"}, "dataframe", "spark.conf_connection"),
        ({"path": "sklearn:wine"}, "rdd", "connection is for files, URLs and databases"),
    ],
)
def test_a_connection_that_nothing_would_use_is_refused(data: dict[str, str], distribution: Any, rule: str) -> None:
    with pytest.raises(SpecError, match=rule):
        TuningSpec("s", data=DataSpec(**data, connection="lake"), distribution=distribution)  # type: ignore[arg-type]


def test_workers_fetch_with_the_login_they_are_given(site: SecureSite, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    space = {"max_depth": ParamSpec("int", low=2, high=4)}
    spec = TuningSpec(
        "s",
        objective="xgboost",
        data=table(site),
        trials=2,
        tasks=1,
        distribution="local",
        search_space=space,
        seed=1,
    )
    with pytest.raises(SpecError, match="start the run from Airflow"):
        tune(spec, url)
    tune(spec, url, secrets=DataSecrets(BASIC))
    assert site.seen == [("/t.csv", BASIC)]
    study = optuna.load_study(study_name="s", storage=url)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    assert HUSH not in spec.to_json()


@pytest.mark.attack("data sources", "a login in what objects print", times=3)
def test_no_object_prints_what_it_holds() -> None:
    secrets = RunSecrets(DataSecrets(BASIC, {"password": HUSH}), {"spark.x": HUSH})
    for text in (repr(secrets), repr(WorkerPayload("{}", data_secrets=secrets.data)), repr(secrets.data)):
        assert HUSH not in text
        assert BASIC not in text


def test_the_file_of_secrets_is_read_once(tmp_path: Path) -> None:
    secrets = RunSecrets(DataSecrets(BASIC, {"password": HUSH}), {"spark.x": "1"})
    file = tmp_path / "secrets.json"
    file.write_text(secrets.to_json())
    assert take_secrets(file) == secrets
    assert not file.exists()
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        take_secrets(file)
    file.write_text(f'{{"data": "{HUSH}"}}')
    with pytest.raises(SpecError, match="does not hold a run's secrets") as caught:
        take_secrets(file)
    assert HUSH not in str(caught.value)


def test_a_rule_of_redaction_keeps_the_one_that_is_there() -> None:
    secret = {"spark.hadoop.fs.azure.account.key.a.net": "x", "spark.b": "y"}
    assert redaction(secret, {})[REDACTION_RULE] == (
        r"(?:(?i)secret|password|token|access[.]?key)|(?:^|\.)(?:fs\.azure\.account\.key\.a\.net|spark\.b)$"
    )
    assert redaction(secret, {REDACTION_RULE: "mine"})[REDACTION_RULE].startswith("(?:mine)|")


@pytest.fixture
def databricks_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the module of Databricks' runtime that hands out the workspace's secrets."""

    class Utilities:
        class secrets:  # noqa: N801 - as it is called there
            get = staticmethod(lambda scope, key: {("tuning", "lake"): HUSH}[scope, key])

    runtime = ModuleType("databricks.sdk.runtime")
    vars(runtime)["dbutils"] = Utilities
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", runtime)


@pytest.mark.usefixtures("databricks_runtime")
def test_on_databricks_the_job_asks_the_workspace_for_reader_options() -> None:
    from optuna_spark.entry.databricks import data_secrets

    options = {"user": "joe", "password": "{{secrets/tuning/lake}}"}
    spec = TuningSpec("s", data=DataSpec("jdbc:t", "jdbc", format_options=options), distribution="dataframe")
    assert data_secrets(spec) == DataSecrets(options={"password": HUSH})
    assert HUSH not in spec.to_json()
    assert data_secrets(TuningSpec("s")) == DataSecrets()
    missing = TuningSpec(
        "s", data=DataSpec("t", "jdbc", format_options={"password": "{{secrets/a/b}}"}), distribution="dataframe"
    )
    with pytest.raises(DataError, match=r"the workspace gives no secret \{\{secrets/a/b\}\}"):
        data_secrets(missing)
