"""The process that writes for the driver: what others can see of it, and how it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from init.local.processes import birth
from optuna_spark.database.connection import Database
from optuna_spark.database.url import URL_VARIABLE
from optuna_spark.errors import TuningError, WriterDiedError
from optuna_spark.storage import writer_process
from optuna_spark.storage.optuna_storage import create_storage
from optuna_spark.storage.study_writer import StudyWriter
from tests.support.coordination import (
    Coordinator,
    bowl,
    empty_database,
    finished,
    run,
    run_into_failure,
    slow,
    spec_for,
    stored,
)
from tests.support.processes import children_naming
from tests.support.waiting import join, wait_until


@pytest.fixture(params=["sqlite", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    return empty_database(request, tmp_path)


def writers(parent: int) -> list[int]:
    return children_naming(parent, writer_process.__name__)


def test_nobody_can_read_the_password_off_it(url: sa.URL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, url.render_as_string(hide_password=False))
    with Coordinator(spec_for(), url) as coordinator:
        coordinator.open()
        (writer,) = writers(os.getpid())
        seen = [Path(f"/proc/{writer}/{file}").read_bytes() for file in ("cmdline", "environ")]
    secret = url.password or str(url.database)
    assert not any(secret.encode() in text for text in seen)


def test_it_ends_with_the_run(url: sa.URL) -> None:
    run(spec_for(trials=3), url)
    assert writers(os.getpid()) == []


def test_one_that_hangs_does_not_hold_the_driver(
    url: sa.URL, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("optuna_spark.storage.writer_process.END_S", 0.5)
    storage = create_storage(url)
    optuna.create_study(study_name="study", storage=storage)
    writer = writer_process.WriterProcess(StudyWriter(storage, Database(url), "study", "one"))
    (pid,) = writers(os.getpid())
    os.kill(pid, signal.SIGSTOP)
    writer.close()
    assert birth(pid) is None
    assert "did not end within 0.5 s: killed" in caplog.text


def test_a_run_that_cannot_begin_leaves_none_behind(url: sa.URL, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        assert writers(os.getpid())
        raise TuningError("not today")

    monkeypatch.setattr("optuna_spark.driver.coordinator.Assignments", refuse)
    with pytest.raises(TuningError, match="not today"):
        Coordinator(spec_for(), url).open()
    assert writers(os.getpid()) == []


def test_killed_it_ends_the_run_with_a_clear_error_and_the_next_run_goes_on(url: sa.URL) -> None:
    def kill(trial: Any) -> float:
        if trial.number == 3:
            for pid in writers(os.getpid()):
                os.kill(pid, signal.SIGKILL)
        return bowl(trial)

    with pytest.raises(WriterDiedError, match=r"died with exit code -9.*start this run again"):
        run_into_failure(spec_for(trials=8), url, kill, 30)
    assert len(finished(url)) == 3

    run(spec_for(trials=8), url)
    assert len(finished(url)) == 8
    assert TrialState.RUNNING not in {t.state for t in stored(url)}


def test_it_does_not_outlive_a_driver_that_is_killed(url: sa.URL) -> None:
    driver = multiprocessing.get_context("spawn").Process(target=drive, args=(url,))
    driver.start()
    pid = driver.pid
    assert pid is not None
    (writer,) = wait_until(lambda: writers(pid), "a writer")
    os.kill(pid, signal.SIGKILL)
    join(driver)
    wait_until(lambda: birth(writer) is None, "the writer to end")


def drive(url: sa.URL) -> None:
    run(spec_for(trials=1000), url, slow(0.2))


def test_an_interrupt_for_the_drivers_group_leaves_it_to_the_driver(url: sa.URL) -> None:
    with Coordinator(spec_for(), url) as coordinator:
        coordinator.open()
        (writer,) = writers(os.getpid())
        assert os.getpgid(writer) == writer != os.getpgrp()
        assert os.getsid(writer) == os.getsid(0)
