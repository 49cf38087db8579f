"""The whole chain with secrets: Airflow, Spark and a data server with a login, and everybody who looks on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from tests.support.airflow import DagFolder, migrated_home
from tests.support.connections import SPARK, TUNING, set_connection
from tests.support.https import SecureSite, secure_site, site_certificate
from tests.support.processes import CommandLines
from tests.support.servers import spark_environment
from tests.whole.test_pipeline import card_in, everything_airflow_keeps

pytestmark = pytest.mark.slow

BASIC = "Basic am9lOmh1c2gtb2YtdGhlLWxha2U="
TEXT = ("a,b,y\n" + "".join(f"{i},{i % 7},{3 * i}\n" for i in range(60))).encode()
NAMES = ("learning_rate", "min_child_weight", "subsample", "colsample_bytree", "gamma", "lambda")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SecureSite]:
    with secure_site(site_certificate(tmp_path)) as site:
        site.files["/t.csv"] = TEXT
        site.logins.add(BASIC)
        yield site


@pytest.fixture
def folder(tmp_path: Path, site: SecureSite, spark_cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch) -> DagFolder:
    migrated_home()
    folder = DagFolder.create(tmp_path / "dags", guarded=study(site, tmp_path))
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    monkeypatch.setenv("TUNING_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TUNING_SPARK_ENV", str(spark_environment()))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PATH", f"{REPOSITORY}/init/spark/bin:{os.environ['PATH']}")
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=spark_cluster.port)
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=f"{tmp_path}/study.db")
    place = {"host": "127.0.0.1", "port": site.server_port}
    set_connection(monkeypatch, "lake", conn_type="http", login="joe", password="hush-of-the-lake", **place)
    set_connection(monkeypatch, "codes", conn_type="generic", extra={"spark.executorEnv.CODE": "hush-of-the-codes"})
    return folder


def study(site: SecureSite, folder: Path) -> str:
    """A study with two connections."""
    space = {name: {"type": "float", "low": 0.1, "high": 1} for name in NAMES}
    document = {
        "objective": "xgboost",
        "retries": 0,
        "trials": 2,
        "tasks": 1,
        "distribution": "rdd",
        "data": {"path": site.url("/t.csv"), "sha256": hashlib.sha256(TEXT).hexdigest(), "connection": "lake"},
        "search_space": space | {"max_depth": {"type": "int", "low": 1, "high": 4}},
        "spark": {
            "executor_memory": "512m",
            "conf_connection": "codes",
            "conf": {"spark.ui.enabled": False, "spark.executorEnv.SSL_CERT_FILE": f"{folder}/site.pem"},
        },
    }
    return json.dumps(document)  # which is YAML too


@pytest.mark.attack(
    "data sources", "secrets looked for in ps, the log, rendered fields and XComs of a DAG run", times=5
)
def test_a_run_with_secrets_shows_none(
    folder: DagFolder, site: SecureSite, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sets = [{"max_depth": 2} | dict.fromkeys(NAMES, 0.5 + i / 1e4) for i in range(2)]
    with CommandLines() as lines:
        assert set(folder.test("tune_guarded", {"enqueue": sets}).values()) == {"success"}
    output = "".join(capfd.readouterr())
    assert site.seen == [("/t.csv", BASIC)]
    done = optuna.load_study(study_name="guarded", storage=f"sqlite:///{tmp_path}/study.db")
    best = [trial.params["subsample"] for trial in done.get_trials(states=(optuna.trial.TrialState.COMPLETE,))]
    assert sorted(best) == [0.5, 0.5001]  # those that were to be tried first

    assert lines.holding("--spec-file")
    assert not lines.holding('"study_name":"guarded"')
    kept = everything_airflow_keeps()
    exported = "".join(file.read_text(errors="replace") for file in (tmp_path / "exports").rglob("*") if file.is_file())
    for text in (
        "\n".join(lines.seen),
        output,
        kept,
        exported,
        folder.path.joinpath("studies/guarded.yaml").read_text(),
    ):
        assert "hush-of" not in text
        assert BASIC not in text
    assert list((tmp_path / "state" / "scratch").glob("tune-*")) == []


def test_a_connection_that_is_missing_fails_the_first_task(
    folder: DagFolder, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_LAKE")
    assert folder.test("tune_guarded")["provision_database"] == "failed"
    assert card_in(capfd.readouterr().out)["What"] == "Airflow has no connection 'lake' (data.connection)"
