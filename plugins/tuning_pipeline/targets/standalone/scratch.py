"""A temporary folder for the files of one Spark application, which only this account can open."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tuning_pipeline.failures import Failure, TaskError

_LOCK = ".lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, which is removed at the end of the block. First removes folders that killed tasks left behind.

    A folder is in use while its lock is held. The kernel frees the lock when the process that holds it ends.

    Raises:
        TaskError: The parent folder cannot be made, belongs to another account, or is open to others.
    """
    base = _base()
    with _locked(base):
        _remove_abandoned(base)
        folder = Path(tempfile.mkdtemp(prefix="tune-", dir=base))
        lock = _lock(folder, wait=False)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()


def write_private(path: Path, text: str) -> Path:
    """Write a new file that only this account can read, from its first moment on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _base() -> Path:
    """The parent folder: $TUNING_STATE/scratch, else a folder of this account in the temp folder."""
    state = os.environ.get("TUNING_STATE")
    folder = Path(state) / "scratch" if state else Path(tempfile.gettempdir()) / f"tuning-scratch-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise TaskError(
            Failure(
                what=f"the run's files cannot be kept in {folder}: {error.strerror}",
                next="Set TUNING_STATE to a folder of your own.",
            )
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise TaskError(
            Failure(
                what=f"{folder} must be a folder of this account that nobody else may open (mode 700)",
                next="Remove it, or set TUNING_STATE to a folder of your own.",
            )
        )
    return folder


def _remove_abandoned(base: Path) -> None:
    for folder in base.glob("tune-*"):
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Let one process at a time make and remove folders: it could remove one that another has not locked yet."""
    lock = _lock(base, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _lock(folder: Path, wait: bool) -> IO[str] | None:
    """The lock of a folder, held until it is closed; None if another process holds it."""
    file = os.fdopen(os.open(folder / _LOCK, os.O_WRONLY | os.O_CREAT, 0o600), "w")
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    file.close()
    return None
