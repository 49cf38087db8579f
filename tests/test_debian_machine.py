"""`make test-debian13`, but for the Debian itself: what it refuses, what it copies, and that nothing outlives it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from init.local.errors import SetupError
from init.local.layout import REPOSITORY
from tests.support import debian_machine
from tests.support.processes import processes_naming
from tests.support.programs import run_program
from tests.support.waiting import wait_until

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"]).returncode != 0,
    reason="this account may not make mounts of its own",
)


@pytest.fixture
def mark(tmp_path: Path) -> str:
    """A text that no other process has in its command line."""
    return str(tmp_path)


def test_what_it_runs_are_targets_and_settings() -> None:
    assert debian_machine.parse("run test-quick TRIALS=20") == ["run", "test-quick", "TRIALS=20"]


@pytest.mark.parametrize("what", ["", " ", "run; touch mark", "--eval=x", "-f/etc/passwd", "$(x)", "TRIALS=`x`"])
def test_anything_else_is_refused_in_one_sentence(what: str) -> None:
    command = [sys.executable, "-m", "tests.support.debian_machine", what]
    done = run_program(command, cwd=REPOSITORY, code=1)
    sentence = f'error: WHAT must be targets and settings of make, such as "run TRIALS=20", got {what!r}\n'
    assert (done.stdout, done.stderr) == ("", sentence)


def test_what_is_missing_is_said_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.debian_machine", "run"]
    done = run_program(command, cwd=REPOSITORY, env={"PATH": str(tmp_path)}, code=1)
    root = "" if os.geteuid() == 0 else "root and "
    assert (done.stdout, done.stderr) == (
        "",
        f"error: a bare Debian 13 cannot be made here without {root}debootstrap and setpriv and unshare and git: "
        "install debootstrap and git with apt-get, then run the same command again as root\n",
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed here")
def test_the_copy_is_what_git_tracks_as_it_is_now(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("changed", "removed", "untracked"):
        (source / name).write_text("first")
    run_program(["git", "init", "--quiet"], cwd=source)
    run_program(["git", "add", "changed", "removed"], cwd=source)
    (source / "changed").write_text("then")
    (source / "removed").unlink()
    debian_machine.copy_checkout(source, target)
    assert {file.name for file in target.iterdir()} == {".git", "changed"}
    assert (target / "changed").read_text() == "then"
    assert debian_machine.tracked(target) == ["changed"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed here")
def test_without_a_repository_there_is_nothing_to_copy(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"copies what git tracks, and git says: .*not a git repository"):
        debian_machine.tracked(tmp_path)


# In this machine's own tree, so that no Debian need be made; and in a mount namespace around that of `inside`, so that
# not even a broken `inside` mounts anything where others see it.
INSIDE = """
import sys
from pathlib import Path
from tests.support.debian_machine import inside

before = Path("/proc/self/mounts").read_text()
code = inside(Path("/"), ["sh", "-c", sys.argv[1]])
sys.exit(code if Path("/proc/self/mounts").read_text() == before else 99)
"""
ENTER = ["unshare", "--mount", sys.executable, "-c", INSIDE]


@needs_mounts
def test_mounts_and_processes_end_with_the_command(mark: str) -> None:
    leave_one_behind = f"setsid sh -c 'sleep 600; : {mark}' & test $(ls -d /proc/[0-9]* | wc -l) -lt 10 && exit 7"
    run_program([*ENTER, leave_one_behind], cwd=REPOSITORY, code=7)
    wait_until(lambda: processes_naming(mark) == [], "all of it to end", 10)


@needs_mounts
def test_they_end_as_well_when_it_is_killed(mark: str) -> None:
    with subprocess.Popen([*ENTER, f"sleep 600; : {mark}"], cwd=REPOSITORY) as process:
        try:
            # This program, unshare, and the shell in there.
            wait_until(lambda: len(processes_naming(mark)) >= 3, "the command to start")
        finally:
            process.kill()
    wait_until(lambda: processes_naming(mark) == [], "all of it to end", 30)
