"""The reasons of failed trials in a task's log: whatever becomes of them, they never fail the task."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState, create_trial

from optuna_spark.storage.optuna_storage import opened_storage
from tests.support.connections import TUNING, set_connection
from tests.support.studies import study_reader
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.study_run import StudyRun
from tuning_pipeline.tasks.failed_trials import log_failed_trials


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRun:
    """A run with one failed trial."""
    file = tmp_path / "study.sqlite3"
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=str(file))
    found = StudyRun(study_reader(tmp_path)("study: s\n"), RunIdentity("d", "r", "m"), "resume", True)
    with opened_storage(sa.URL.create("sqlite", database=str(file))) as storage:
        study = optuna.create_study(study_name="s", storage=storage)
        attrs = {"run_id": found.key, "error": "ValueError: too deep"}
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attrs))
    return found


def told(tuned: Callable[[], StudyRun], caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.INFO, log_failed_trials.__module__):
        log_failed_trials(tuned)
    return "\n".join(r.getMessage() for r in caplog.records if r.name == log_failed_trials.__module__)


def test_the_reasons_are_in_the_log(run: StudyRun, caplog: pytest.LogCaptureFixture) -> None:
    assert "ValueError: too deep" in told(lambda: run, caplog)


def test_what_cannot_be_read_is_one_line(run: StudyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/study.sqlite3")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE trial_user_attributes SET value_json = 'no JSON' WHERE \"key\" = 'error'"))
    engine.dispose()
    assert told(lambda: run, caplog) == "The reasons of failed trials cannot be read: JSONDecodeError"


def test_a_connection_that_is_gone_is_one_line(
    run: StudyRun, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, TUNING, conn_type="http", host="elsewhere")
    assert "The reasons of failed trials cannot be read: " in told(lambda: run, caplog)


def test_a_run_that_cannot_be_found_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def none() -> StudyRun:
        raise RuntimeError("Airflow's API server does not answer")

    assert told(none, caplog) == "The reasons of failed trials cannot be read: RuntimeError"
