"""The commit that a folder is checked out at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_PATIENCE_S = 20.0


def git_commit(folder: Path) -> str | None:
    """The commit of a folder's checkout; with `+changes` if files of the folder differ from it.

    None if the folder is in no checkout, holds nothing of one, or git does not trust or is not there.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit or not _git(folder, "ls-files", "--", "."):
        return None
    changed = _git(folder, "status", "--porcelain", "--", ".")
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints; None if it fails."""
    # Not the caller's GIT_DIR: a hook of git's, or a test run by one, sets it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # A checkout's configuration may name a program for the first option, which must not run here.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, env=env | {"GIT_OPTIONAL_LOCKS": "0"}, capture_output=True, text=True, timeout=_PATIENCE_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
