"""How an application's processes are ended: its Python first, the rest when that does not help, and nobody else's."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import wait_until
from tuning_pipeline.targets.standalone import driver_end
from tuning_pipeline.targets.standalone.driver_end import end_application

log = logging.getLogger(__name__)
# As spark-submit: waits for the Python below it, ends as that did, and writes down a SIGTERM of its own.
SUBMIT = """
import pathlib, signal, subprocess, sys
def told(*_):
    pathlib.Path(sys.argv[1] + ".submit").touch()
    sys.exit(7)
signal.signal(signal.SIGTERM, told)
driver = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]]) if sys.argv[2] else None
print("ready", flush=True)
sys.exit(driver.wait() if driver else signal.pause())
"""
ORDERLY = """
import pathlib, signal, sys
def told(*_):
    pathlib.Path(sys.argv[1] + ".driver").touch()
    sys.exit(5)
signal.signal(signal.SIGTERM, told)
pathlib.Path(sys.argv[1] + ".ready").touch()
signal.pause()
"""
STUBBORN = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1] + ".ready").touch()
while True: signal.pause()
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return str(tmp_path / "spec.json")


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def submitted(spec: str, driver: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", SUBMIT, spec, driver], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if driver:
        wait_until(Path(f"{spec}.ready").exists, "the driver")
    return process


def test_the_driver_is_asked_and_the_rest_ends_with_it(spec: str, bystander: subprocess.Popen[bytes]) -> None:
    submit = submitted(spec, ORDERLY)
    end_application(spec, log)
    assert Path(f"{spec}.driver").exists()
    assert not Path(f"{spec}.submit").exists()
    assert submit.wait(timeout=60) == 5  # nobody else has taken it
    assert bystander.poll() is None


def test_before_there_is_a_driver_spark_submit_is_asked(spec: str) -> None:
    submit = submitted(spec, "")
    end_application(spec, log)
    assert Path(f"{spec}.submit").exists()
    assert submit.wait(timeout=60) == 7


def test_what_does_not_end_is_killed(
    spec: str, bystander: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver_end, "GRACE_S", 0.5)
    submit = submitted(spec, STUBBORN)
    [driver] = psutil.Process(submit.pid).children()
    with caplog.at_level(logging.INFO):
        end_application(spec, log)
    assert submit.wait(timeout=60) in (-9, 247)
    wait_until(lambda: not driver.is_running(), "the driver's end")
    assert "it has 0.5 s to close its trials and its files" in caplog.text
    assert "Spark's driver did not end within 0.5 s: killed" in caplog.text
    assert bystander.poll() is None


def test_where_nothing_was_submitted_nothing_is_ended(spec: str, bystander: subprocess.Popen[bytes]) -> None:
    end_application(spec, log)
    assert bystander.poll() is None


def test_the_driver_has_less_time_than_it_is_given() -> None:
    from optuna_spark.driver.ending import END_S

    assert END_S < driver_end.GRACE_S
