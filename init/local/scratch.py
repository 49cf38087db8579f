"""Folders for temporary files in the state folder: what a killed program leaves behind goes when they are emptied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# In bytes. Python's multiprocessing puts a socket into a folder in there, and a socket's path may have 107.
LONGEST_TMPDIR = 75


def variables(folder: Path) -> dict[str, str]:
    """TMPDIR for programs that use the folder, which is made; none where its name is too long for their sockets."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    return {"TMPDIR": str(folder)} if len(os.fsencode(folder)) <= LONGEST_TMPDIR else {}


def empty(folder: Path) -> None:
    """Removes what is in a folder, which stays: another program may be about to use it."""
    for entry in folder.iterdir() if folder.is_dir() else []:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
