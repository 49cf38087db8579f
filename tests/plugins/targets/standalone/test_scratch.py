"""The folder of a Spark application's files: closed to others, and gone afterwards, however its task ended."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from tests.support.waiting import wait_until
from tuning_pipeline.failures import TaskError
from tuning_pipeline.targets.standalone.scratch import scratch_folder, write_private

HOLD = """
import sys, time
from tuning_pipeline.targets.standalone.scratch import scratch_folder, write_private
with scratch_folder() as folder:
    write_private(folder / "spec.json", "{}")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNING_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "scratch"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def runs_in(base: Path) -> list[str]:
    return sorted(folder.name for folder in base.glob("tune-*"))


@pytest.mark.attack("data sources", "another account reads the files of a run", times=2)
@pytest.mark.parametrize("umask", [0o022, 0])
def test_only_this_account_can_open_it(base: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with scratch_folder() as folder:
            file = write_private(folder / "spec.json", "{}")
            assert (mode(base), mode(folder), mode(file)) == (0o700, 0o700, 0o600)
            assert {mode(path) for path in folder.iterdir()} == {0o600}
    finally:
        os.umask(before)
    assert runs_in(base) == []


def test_a_file_that_is_there_is_never_written_into(base: Path) -> None:
    with scratch_folder() as folder:
        write_private(folder / "spec.json", "{}")
        with pytest.raises(FileExistsError):
            write_private(folder / "spec.json", "{}")


def test_it_is_gone_when_the_task_fails(base: Path) -> None:
    with pytest.raises(RuntimeError), scratch_folder():
        raise RuntimeError
    assert runs_in(base) == []


@pytest.mark.attack("data sources", "files of a killed run are looked for", times=1)
def test_what_a_killed_task_left_behind_goes_with_the_next_one(base: Path) -> None:
    task = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert task.stdout is not None
        left = Path(task.stdout.readline().strip())
        with scratch_folder():
            assert left.is_dir()  # its task still runs
    finally:
        task.send_signal(signal.SIGKILL)
        task.communicate()
    assert left.is_dir()
    with scratch_folder() as mine:
        assert runs_in(base) == [mine.name]


def environment() -> dict[str, str]:
    paths = [str(REPOSITORY / name) for name in ("jobs", "plugins")]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.attack("data sources", "a folder for a run's files laid out by another account", times=2)
@pytest.mark.parametrize("trap", ["open", "link"])
def test_a_place_that_others_can_open_is_refused(base: Path, tmp_path: Path, trap: str) -> None:
    base.parent.mkdir(parents=True)
    if trap == "open":
        base.mkdir()
        base.chmod(0o777)
    else:
        (tmp_path / "theirs").mkdir(mode=0o700)
        base.symlink_to(tmp_path / "theirs")
    with pytest.raises(TaskError, match="must be a folder of this account that nobody else may open"), scratch_folder():
        pass


def test_a_place_that_cannot_be_made_is_one_sentence(base: Path) -> None:
    base.parent.write_text("a file")
    with pytest.raises(TaskError, match=r"the run's files cannot be kept in .*scratch: "), scratch_folder():
        pass


def test_tasks_that_start_together_keep_their_folders(base: Path) -> None:
    tasks = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=environment())
        for _ in range(3)
    ]
    try:
        wait_until(lambda: len(runs_in(base)) == 3, "three folders")
        folders = [task.stdout.readline().strip() for task in tasks if task.stdout is not None]
        assert sorted(Path(folder).name for folder in folders) == runs_in(base)
    finally:
        for task in tasks:
            task.kill()
            task.communicate()
