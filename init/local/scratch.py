"""Folders for temporary files inside the state folder. Emptying them removes what a killed program left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# In bytes, as in init/spark/environment.sh, which says why.
LONGEST_TMPDIR = 75


def variables(folder: Path) -> dict[str, str]:
    """Makes the folder, and returns TMPDIR for programs that use it; nothing if its path is too long for sockets."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    return {"TMPDIR": str(folder)} if len(os.fsencode(folder)) <= LONGEST_TMPDIR else {}


def empty(folder: Path) -> None:
    """Removes the contents of a folder, but not the folder: another program may be about to use it."""
    for entry in folder.iterdir() if folder.is_dir() else []:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
