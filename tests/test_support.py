"""What the tests themselves lean on: programs that fail say why, and waits end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from init.local.guard import descendants
from init.local.processes import birth
from tests.support.processes import processes_naming
from tests.support.programs import run_program
from tests.support.waiting import join, wait_until


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended with 3, not 0\n--- stdout:\nfirst\n--- stderr:\nthen"):
        run_program(["sh", "-c", "echo first; echo then >&2; exit 3"])


def test_a_program_that_hangs_shows_what_it_wrote() -> None:
    with pytest.raises(AssertionError, match=r"(?s)did not end within 1 s\n--- stdout:\nhere I stand"):
        run_program(["sh", "-c", "echo here I stand; exec sleep 60"], seconds=1)


def test_a_program_that_should_fail_and_does_not_is_told() -> None:
    with pytest.raises(AssertionError, match="ended with 0, not 1"):
        run_program(["true"], code=1)


def test_a_make_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("pack:\n\t@echo 'no such package' >&2; exit 1\n")
    with pytest.raises(AssertionError, match="no such package"):
        run_program(["make", "--silent", "pack"], cwd=tmp_path)


def test_a_corpse_that_nobody_takes_away_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "a name to find"])
    try:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{process.pid}").exists()
        assert process.pid not in processes_naming("a name to find")
        assert process.pid not in descendants(os.getpid())
        assert birth(process.pid) is None
    finally:
        process.wait(timeout=60)


def test_a_wait_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"waited 0.1 s for the moon"):
        wait_until(lambda: False, "the moon", 0.1)


def test_waiting_for_a_thread_has_a_limit() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="the patient one", daemon=True)
    thread.start()
    with pytest.raises(AssertionError, match=r"waited 0.1 s for the patient one to end"):
        join(thread, seconds=0.1)
    over.set()
    join(thread)
