"""Whichever connections a task looks up, its log shows the secrets of none."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk.log import mask_logs

from tests.support.airflow import migrated_home
from tests.support.connections import ADMIN, SPARK, TUNING, set_connection
from tests.support.studies import study_reader
from tuning_pipeline.runs.begin import begin

DATABRICKS = "tuning_databricks"
PASSWORDS = {
    TUNING: "first&pass/word",
    ADMIN: "second pass%word",
    SPARK: "third=pass:word",
    DATABRICKS: "fourth#pass@word",
}
TOKENS = {conn_id: f"nested-token-of-{conn_id}" for conn_id in PASSWORDS}
PAGE = "http://spark.example:8080"


@dataclass(frozen=True)
class Run:
    dag_id: str = "tune_s"
    run_id: str = "manual__1"
    run_type: str = "manual"
    conf: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskInstance:
    task_id: str = "tune"

    def xcom_pull(self, task_ids: str, key: str) -> None:
        return None


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    migrated_home()
    for conn_id, password in PASSWORDS.items():
        extra = {"web_page": PAGE, "options": [{"sas": TOKENS[conn_id]}], "client": "pymysql"}
        set_connection(monkeypatch, conn_id, conn_type="mysql", host="h", login="l", password=password, extra=extra)


def logged(text: str) -> str:
    return str(mask_logs(None, "info", {"event": text})["event"])


@pytest.mark.attack("the trigger", "a secret of a connection that the task itself does not use, in its log", times=12)
def test_the_secrets_of_every_connection_are_masked_from_a_tasks_first_line(connections: None, tmp_path: Path) -> None:
    secrets = [*PASSWORDS.values(), *(quote(word, safe="") for word in PASSWORDS.values()), *TOKENS.values()]
    begin(study_reader(tmp_path)("objective: quadratic\n"), {"dag_run": Run(), "ti": TaskInstance(), "params": {}})  # type: ignore[typeddict-item]
    for secret in secrets:
        assert secret not in logged(f"mysql://l:{secret}@h and {secret} again")
    assert logged(f"{PAGE} by pymysql") == f"{PAGE} by pymysql"
