"""Runs whose table is in an object store: every way to start workers reads it, and all read the same bytes."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from init.local.spark import SparkCluster
from optuna_spark.driver.run import tune
from optuna_spark.errors import DataError, TuningError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_keys import DISTRIBUTIONS
from optuna_spark.spec.run_secrets import DataSecrets, RunSecrets
from optuna_spark.spec.tuning import TuningSpec
from tests.support.s3_server import HUSH, S3Server
from tests.support.submit import submit
from tests.support.waiting import wait_until

CSV = "town;rooms;price\nUlm;2;10.5\nBonn;3;20.0\n;4;30.0\nUlm;;40.0\n"
ROWS = {"town": ["Ulm", "Bonn", None, "Ulm"], "rooms": [2, 3, 4, None], "price": [10.5, 20.0, 30.0, 40.0]}
ON_SPARK = [way for way in DISTRIBUTIONS if way != "local"]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def store(s3_server: S3Server) -> S3Server:
    s3_server.put("/runs")
    s3_server.put("/runs/t/part-1.csv", CSV)
    s3_server.put("/runs/changing.csv", "a,y\n1,2\n")
    return s3_server


def spec_of(path: str, objective: str, distribution: str) -> TuningSpec:
    return TuningSpec(
        f"stores-{distribution}",
        objective=f"sample_objectives:{objective}",
        data=DataSpec(path, separator=";" if path.startswith("s3://runs/t") else ",", connection="lake"),
        distribution=distribution,  # type: ignore[arg-type]  # one of the literals
        trials=2,
        tasks=2,
    )


def check_tables(url: str, spec: TuningSpec) -> None:
    trials = optuna.load_study(study_name=spec.study_name, storage=url).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert [trial.user_attrs["table"] for trial in trials] == [ROWS] * 2


def test_workers_without_spark_read_a_store(store: S3Server, tmp_path: Path) -> None:
    url, spec = f"sqlite:///{tmp_path}/study.sqlite3", spec_of("s3://runs/t", "table_content", "local")
    tune(spec, url, secrets=DataSecrets(store=store.secrets))
    check_tables(url, spec)
    assert HUSH not in spec.to_json()


def test_a_table_that_changes_in_mid_run_is_one_sentence(store: S3Server, tmp_path: Path) -> None:
    url, spec = f"sqlite:///{tmp_path}/study.sqlite3", spec_of("s3://runs/changing.csv", "overwrites", "local")
    with pytest.raises(TuningError):
        tune(spec, url, secrets=DataSecrets(store=store.secrets))
    trials = optuna.load_study(study_name=spec.study_name, storage=url).trials
    assert {trial.state for trial in trials} == {TrialState.FAIL}
    errors = [str(value) for trial in trials for value in trial.system_attrs.values()]
    assert any("s3://runs/changing.csv has changed since the run began" in error for error in errors), errors


def test_a_table_that_the_connection_does_not_open_ends_the_run_before_any_trial(
    store: S3Server, tmp_path: Path
) -> None:
    spec = spec_of("s3://runs/none.csv", "table_content", "local")
    with pytest.raises(DataError, match="does not exist in bucket 'runs'"):
        tune(spec, f"sqlite:///{tmp_path}/study.sqlite3", secrets=DataSecrets(store=store.secrets))


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ON_SPARK)
@pytest.mark.attack("data sources", "keys of a store looked for in what a run writes", times=len(ON_SPARK))
def test_workers_on_spark_read_a_store_with_the_connections_keys(
    spark_cluster: SparkCluster, store: S3Server, tmp_path: Path, distribution: str
) -> None:
    url, spec = f"sqlite:///{tmp_path}/study.sqlite3", spec_of("s3://runs/t", "table_content", distribution)
    (tmp_path / "spec.json").write_text(spec.to_json())
    (tmp_path / "secrets.json").write_text(RunSecrets(DataSecrets(store=store.secrets)).to_json())
    arguments = ["--spec-file", str(tmp_path / "spec.json"), "--secrets-file", str(tmp_path / "secrets.json")]
    traces = {"spark.eventLog.enabled": "true", "spark.eventLog.compress": "false"}
    traces |= {"spark.eventLog.rolling.enabled": "false", "spark.eventLog.dir": f"file://{tmp_path}"}
    done = submit(spark_cluster.master_url, tmp_path, arguments, traces, OPTUNA_STORAGE_URL=url)
    assert done.returncode == 0, done.stdout[-3000:]
    check_tables(url, spec)
    (events,) = wait_until(lambda: [path for path in tmp_path.glob("app-*") if path.suffix != ".inprogress"])
    assert HUSH not in events.read_text()
    assert HUSH not in done.stdout
