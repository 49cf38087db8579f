"""No temporary files of ours in the system's folder: not after a run, and not after one that was killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from init.local import scratch
from init.local.layout import REPOSITORY
from tests.support.servers import spark_environment

# A /tmp of its own, so that only the run can leave something there.
OWN_TMP = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "sh", "-c"]
OWN_TMP += ['mount -t tmpfs none /tmp && exec "$0" "$@"']


def has_own_tmp() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*OWN_TMP, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not spark_environment().exists(), reason="no Spark environment: run `make setup`")
@pytest.mark.skipif(not has_own_tmp(), reason="this account may not mount a /tmp of its own")
@pytest.mark.parametrize("end", ["ended", "killed"])
def test_nothing_is_left_in_tmp(end: str) -> None:
    command = [*OWN_TMP, sys.executable, "-m", "tests.support.one_run", end]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["tmp"] == []
    assert seen["after"] == []
    if end == "killed":
        assert any(name.startswith("of-a-task-") for name in seen["before"])


def test_a_folder_is_emptied_and_what_its_links_name_is_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").touch()
    (folder / "link").symlink_to(kept)
    scratch.empty(folder)
    assert list(folder.iterdir()) == []
    assert (kept / "file").exists()
    scratch.empty(tmp_path / "none")


def test_a_folder_too_deep_for_a_socket_is_not_the_temporary_one(tmp_path: Path) -> None:

    assert scratch.variables(tmp_path / ("d" * 100)) == {}
    assert (tmp_path / ("d" * 100)).is_dir()
