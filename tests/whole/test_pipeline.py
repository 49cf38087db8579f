"""The whole chain in the real Airflow, with a real MySQL server and a real Spark cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from init.local.layout import REPOSITORY
from init.local.mysql import MysqlServer
from init.local.spark import SparkCluster
from optuna_spark.errors import TuningError
from tests.support.airflow import QUICK_STUDY, DagFolder, migrated_home, write_own_code
from tests.support.connections import ADMIN, SPARK, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.documents import undescribed
from tests.support.processes import processes_naming
from tests.support.servers import spark_environment
from tests.support.tls_server import TlsServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PASSWORD = "hush'\"%d{}\\ hush"
SPARK_CONF = "spark:\n  executor_memory: 512m\n  conf: {spark.ui.enabled: false}\n"
SLOW_OBJECTIVE = "import time\n\n\ndef slow(trial):\n    time.sleep(600)\n    return 1.0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DagFolder:
    migrated_home()
    # The studies of one test are not those of the next: they share the database server.
    folder = DagFolder.create(tmp_path / "dags", quick=f"{QUICK_STUDY}study: {tmp_path.name}\n{SPARK_CONF}")
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    monkeypatch.setenv("TUNING_SPARK_ENV", str(spark_environment()))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.setenv("PATH", f"{REPOSITORY}/init/spark/bin:{os.environ['PATH']}")
    return folder


@pytest.fixture
def database(mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch) -> sqlalchemy.URL:
    fields = tuning_fields(mysql_server, schema="optuna_pipeline", login="pipeline", password=PASSWORD)
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server))
    set_connection(monkeypatch, TUNING, **fields)
    return sqlalchemy.URL.create(
        "mysql+pymysql", "pipeline", PASSWORD, mysql_server.host, mysql_server.port, "optuna_pipeline"
    )


@pytest.fixture
def cluster(spark_cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch) -> SparkCluster:
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=spark_cluster.port)
    return spark_cluster


def stored(url: sqlalchemy.URL, name: str) -> optuna.Study:
    from optuna_spark.storage.optuna_storage import create_storage

    return optuna.load_study(study_name=name, storage=create_storage(url))


def card_in(text: str) -> dict[str, str]:
    """The last card of an output: its rows by label."""
    lines = [line for line in text.splitlines() if line.startswith(("┌", "│", "└"))]
    assert lines, text[-3000:]
    start = max(i for i, line in enumerate(lines) if line.startswith("┌"))
    rows: dict[str, str] = {}
    for line in lines[start + 1 :]:
        label, text = line[2:8].strip(), line[9:].strip()
        if label:
            rows[label] = text
        elif rows:
            rows[list(rows)[-1]] += " " + text
    return rows


def test_the_chain_runs_and_runs_again(
    folder: DagFolder,
    database: sqlalchemy.URL,
    cluster: SparkCluster,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert set(folder.test("tune_quick").values()) == {"success"}
    study = stored(database, tmp_path.name)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4

    latest = tmp_path / "exports" / tmp_path.name / "latest"
    best = json.loads((latest / "best_params.json").read_text())
    assert best["value"] == study.best_value
    assert best["params"] == study.best_params
    assert not undescribed(best, "best_params.json")
    assert published(f"best_params_{tmp_path.name}")["params"] == study.best_params

    assert set(folder.test("tune_quick", {"trials": 3, "mode": "resume"}).values()) == {"success"}
    assert len(stored(database, tmp_path.name).trials) == 7

    output = "".join(capfd.readouterr())
    assert "[tuning]" in output
    assert "hush" not in output
    assert "hush" not in everything_airflow_keeps()


def test_code_beside_the_study_file_travels_to_the_workers_with_its_data(
    folder: DagFolder,
    database: sqlalchemy.URL,
    cluster: SparkCluster,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_own_code(folder.path / "studies")
    text = QUICK_STUDY.replace("objective: quadratic", "objective: churn:objective")
    folder.write_study("quick", f"{text}study: {tmp_path.name}\n{SPARK_CONF}")
    assert set(folder.test("tune_quick").values()) == {"success"}
    trials = stored(database, tmp_path.name).trials
    assert [(trial.state.name, trial.user_attrs["weights"]) for trial in trials] == [("COMPLETE", [3, 4])] * 4
    sent = "churn.py (1 kB), churn_features.py (1 kB), mymodel (2 files, 1 kB), lookup (2 files, 1 kB)"
    assert f"Travels to driver and workers: {sent}" in "".join(capfd.readouterr())


@pytest.mark.parametrize("coordination", ["driver", "database"])
def test_the_chain_runs_over_tls(
    coordination: str, folder: DagFolder, tls_server: TlsServer, cluster: SparkCluster, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server, keys = tls_server.server, tls_server.keys("VERIFY_IDENTITY")
    account = {"schema": "optuna_sealed", "login": "sealed", "password": PASSWORD}
    set_connection(monkeypatch, ADMIN, **admin_fields(server) | {"extra": keys})
    set_connection(monkeypatch, TUNING, **tuning_fields(server, **account) | {"extra": keys})
    hosts = "database: {host_pattern: 127.0.0.1}\n" if coordination == "database" else ""
    text = f"{QUICK_STUDY}study: {tmp_path.name}\ncoordination: {coordination}\n{hosts}{SPARK_CONF}"
    folder.write_study("quick", text)
    assert set(folder.test("tune_quick").values()) == {"success"}
    url = sqlalchemy.URL.create("mysql+pymysql", "sealed", PASSWORD, server.host, server.port, "optuna_sealed", keys)
    assert [trial.state.name for trial in stored(url, tmp_path.name).trials] == ["COMPLETE"] * 4
    with pytest.raises(TuningError, match="refuses the password"):  # as the account takes nobody in clear text
        stored(url.set(query={"ssl_mode": "DISABLED"}), tmp_path.name)


def published(asset: str) -> dict[str, Any]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        statement = sqlalchemy.select(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        rows = session.scalars(statement.where(AssetModel.name == asset).order_by(AssetEvent.id)).all()
        return dict(rows[-1])


def everything_airflow_keeps() -> str:
    """Rendered templates, XComs and serialised DAGs, as texts."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        kept = [
            *session.scalars(sqlalchemy.select(RenderedTaskInstanceFields.rendered_fields)),
            *session.scalars(sqlalchemy.select(XComModel.value)),
            *(dag.data for dag in session.scalars(sqlalchemy.select(SerializedDagModel))),
        ]
    assert kept
    return repr(kept)


def test_an_unknown_key_of_the_form_fails_the_first_task(
    folder: DagFolder, database: sqlalchemy.URL, capfd: pytest.CaptureFixture[str]
) -> None:
    states = folder.test("tune_quick", {"trails": 3})
    assert states["provision_database"] == "failed"
    assert card_in(capfd.readouterr().out)["What"].startswith("trigger conf: unknown key 'trails'")


@pytest.mark.attack("the trigger", "Spark properties in a run's conf, in a whole run")
def test_a_conf_with_spark_properties_fails_the_first_task(
    folder: DagFolder, database: sqlalchemy.URL, capfd: pytest.CaptureFixture[str]
) -> None:
    conf = {"spark_conf": {"spark.driver.extraJavaOptions": "-XX:OnOutOfMemoryError=id"}}
    states = folder.test("tune_quick", conf)
    assert (states["provision_database"], states["tune"]) == ("failed", "upstream_failed")
    rows = card_in(capfd.readouterr().out)
    assert rows["What"].startswith("trigger conf: this study's form does not offer spark_conf: it decides any Spark")


def test_a_wrong_password_fails_at_once_without_a_retry(
    folder: DagFolder, database: sqlalchemy.URL, mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder.write_study("quick", QUICK_STUDY.replace("retries: 0", "retries: 3"))
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server) | {"password": "wrong"})
    assert folder.test("tune_quick")["provision_database"] == "failed"
    assert "refuses account 'tuning_admin' or its password" in card_in(capfd.readouterr().out)["What"]


def test_an_unreachable_database_is_one_card(
    folder: DagFolder, database: sqlalchemy.URL, mysql_server: MysqlServer, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder.write_study("quick", f"{QUICK_STUDY}database: {{wait_s: 1}}\n")
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server) | {"port": 1})
    assert folder.test("tune_quick")["provision_database"] == "failed"
    assert card_in(capfd.readouterr().out)["What"] == "no MySQL server answers at 127.0.0.1:1"


def test_a_study_that_does_not_fit_is_one_card(
    folder: DagFolder, database: sqlalchemy.URL, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tuning_pipeline.database.provision import provision
    from tuning_pipeline.study_file.study_file import read_study

    given = read_study(folder.path / "studies" / "quick.yaml")
    provision(given.settings)
    study = optuna.create_study(study_name=tmp_path.name, storage=_storage(database), direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=1.0))  # an empty study would take the file's direction
    assert folder.test("tune_quick")["prepare_study"] == "failed"
    rows = card_in(capfd.readouterr().out)
    assert "is stored with directions maximize, but the study file says minimize" in rows["What"]
    assert "mode reset" in rows["Next"]


def _storage(url: sqlalchemy.URL) -> Any:
    from optuna_spark.storage.optuna_storage import create_storage

    return create_storage(url)


def test_a_spark_master_that_is_down_is_one_card(
    folder: DagFolder, database: sqlalchemy.URL, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=1)
    states = folder.test("tune_quick")
    assert (states["prepare_study"], states["tune"]) == ("success", "failed")
    assert card_in(capfd.readouterr().out)["What"] == "no Spark master answers at spark://127.0.0.1:1"


def test_a_failed_job_shows_its_cause_and_no_java_stack(
    folder: DagFolder, database: sqlalchemy.URL, cluster: SparkCluster, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text = QUICK_STUDY.replace("objective: quadratic", "objective: xgboost\ndata: {path: missing.csv}")
    folder.write_study("quick", f"{text}study: {tmp_path.name}\n{SPARK_CONF}")
    assert folder.test("tune_quick")["tune"] == "failed"
    output = capfd.readouterr().out
    assert "missing.csv" in card_in(output)["What"]
    assert "at org.apache.spark" not in output
    assert not (tmp_path / "exports").exists()


def test_an_objective_beside_the_study_file_runs(
    folder: DagFolder, database: sqlalchemy.URL, cluster: SparkCluster, tmp_path: Path
) -> None:
    (folder.path / "studies" / "beside.py").write_text(
        "def cube(trial):\n    return trial.suggest_int('n', 0, 3) ** 3\n"
    )
    text = QUICK_STUDY.replace("objective: quadratic", "objective: beside:cube")
    folder.write_study("quick", f"{text}study: {tmp_path.name}\n{SPARK_CONF}")
    assert set(folder.test("tune_quick").values()) == {"success"}
    study = stored(database, tmp_path.name)
    assert all(trial.value == trial.params["n"] ** 3 for trial in study.trials)


def test_a_task_that_runs_out_of_time_leaves_no_process(
    folder: DagFolder, database: sqlalchemy.URL, cluster: SparkCluster, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (folder.path / "studies" / "sleeper.py").write_text(SLOW_OBJECTIVE)
    text = QUICK_STUDY.replace("objective: quadratic", "objective: sleeper:slow")
    folder.write_study("quick", f"{text}study: {tmp_path.name}\nexecution_timeout_s: 25\n{SPARK_CONF}")
    assert folder.test("tune_quick")["tune"] == "failed"
    assert "execution_timeout_s" in card_in(capfd.readouterr().out)["What"]
    wait_until(lambda: not processes_naming(tmp_path.name), "the job's processes to end")
    wait_until(lambda: running_applications(cluster) == 0, "the master to know that they ended")


def test_a_killed_task_leaves_no_process(
    folder: DagFolder, database: sqlalchemy.URL, cluster: SparkCluster, tmp_path: Path
) -> None:
    (folder.path / "studies" / "sleeper.py").write_text(SLOW_OBJECTIVE)
    text = QUICK_STUDY.replace("objective: quadratic", "objective: sleeper:slow")
    folder.write_study("quick", f"{text}study: {tmp_path.name}\n{SPARK_CONF}")
    log = tmp_path / "airflow.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "airflow", "dags", "test", "tune_quick"]
        airflow = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=airflow_environment())
    try:
        wait_until(lambda: "[tuning] Starting" in log.read_text(), "the job to start", 600)
        assert processes_naming(tmp_path.name)
    finally:
        os.kill(airflow.pid, signal.SIGKILL)
        airflow.wait(timeout=60)
    wait_until(lambda: not processes_naming(tmp_path.name), "the job's processes to end")
    wait_until(lambda: running_applications(cluster) == 0, "the master to know that they ended")


def airflow_environment() -> dict[str, str]:
    """What `make run` gives Airflow; pytest itself has the folders on its path."""
    paths = [str(REPOSITORY / name) for name in ("jobs", "plugins")]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def running_applications(cluster: SparkCluster) -> int:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{cluster.web_url}/json/", timeout=60) as answer:
        return len(json.load(answer)["activeapps"])
