"""Folders that appear complete or not at all, on a disk or in an object store.

On a disk, a folder is written under a hidden name and then renamed. An object store cannot rename a folder. There the
files are written one by one, and the `marker` file last: a folder that holds it is complete. If writing fails, what was
there before is put back.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

log = logging.getLogger(__name__)

LATEST = "latest"
LATEST_MARKER = "LATEST"

Files = Mapping[str, bytes]


def local_path(path: ObjectStoragePath) -> Path | None:
    """The path on this machine's disk; None for an object store."""
    return Path(path.path).absolute() if path.protocol in ("", "file", "local") else None


def publish_folder(folder: ObjectStoragePath, files: Files, marker: str) -> None:
    """Make `folder` hold exactly `files`, in place of what it held.

    Args:
        folder: The folder. Its parents are created.
        files: Contents by file name, which may begin with a folder: `model/card.json`.
        marker: The name of the file whose presence says that the folder is complete.
    """
    local = local_path(folder)
    if local is None:
        _publish_objects(folder, files, marker)
    else:
        _publish_directory(local, files)


def publish_latest(folder: ObjectStoragePath, files: Files) -> None:
    """Make `latest` beside `folder` lead to it: a symlink, or a copy if there are no symlinks.

    A copy holds one more file, `LATEST`, with the name of the folder. It is written last.
    """
    latest = folder.parent / LATEST
    local = local_path(latest)
    if local is not None and _link_directory(local, folder.name):
        return
    publish_folder(latest, {**files, LATEST_MARKER: f"{folder.name}\n".encode()}, LATEST_MARKER)


def publish_file(file: ObjectStoragePath, content: bytes) -> None:
    """Replace the content of `file` in one step. Its folder must exist."""
    local = local_path(file)
    if local is None:  # object stores replace an object in one step themselves
        file.write_bytes(content)
        return
    new = _hidden(local, "new")
    try:
        new.write_bytes(content)
        new.replace(local)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def remove_folder(folder: ObjectStoragePath, marker: str) -> None:
    """Remove a folder that was published with this marker. Until the end, readers see it complete or not at all."""
    local = local_path(folder)
    if local is not None:
        old = _hidden(local, "old")
        local.rename(old)
        _remove(old)
        return
    (folder / marker).unlink()  # first: without it the folder does not count as an export
    for path in _objects(folder).values():
        path.unlink()


def _publish_directory(folder: Path, files: Files) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    new = _hidden(folder, "new")
    try:
        new.mkdir()
        for name, content in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        _swap(new, folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _swap(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`. A directory cannot be renamed over another one, so the old one is renamed first."""
    old = _hidden(folder, "old")
    if not os.path.lexists(folder):
        new.rename(folder)
        return
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    _remove(old)


def _link_directory(link: Path, target: str) -> bool:
    """Point the symlink `link` at its sibling `target` in one step. Returns False if the disk has no symlinks."""
    new = _hidden(link, "new")
    try:
        new.symlink_to(target, target_is_directory=True)
    except OSError as error:
        log.info("No symlink at %s (%s): copying instead", link, error)
        return False
    try:
        if link.is_dir() and not link.is_symlink():  # a copy, from a time when the disk had no symlinks
            _swap(new, link)
        else:
            new.replace(link)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return True


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{kind}")


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed export of this folder left behind. If the folder is gone, its last complete copy returns."""
    for kind in ("new", "old"):
        for path in folder.parent.glob(f".{folder.name}.????????.{kind}"):
            if kind == "old" and not os.path.lexists(folder):
                path.rename(folder)
            else:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _publish_objects(folder: ObjectStoragePath, files: Files, marker: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    before = {name: path.read_bytes() for name, path in _objects(folder).items()}  # to put back if writing fails
    try:
        _write_objects(folder, files, marker)
    except BaseException:
        log.warning("Writing %s failed: putting back the %s files it held", folder, len(before))
        _write_objects(folder, before, marker)
        raise


def _write_objects(folder: ObjectStoragePath, files: Files, marker: str) -> None:
    # Without the marker, the folder counts as incomplete while its files change.
    (folder / marker).unlink(missing_ok=True)
    for name, path in _objects(folder).items():
        if name not in files:
            path.unlink()
    for name in sorted(files, key=lambda name: name == marker):
        if "/" in name:  # some stores, and the disks behind a file:// URL, know folders
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files[name])


def _objects(folder: ObjectStoragePath, prefix: str = "") -> dict[str, ObjectStoragePath]:
    """The files of a folder and of the folders in it, by name."""
    found: dict[str, ObjectStoragePath] = {}
    try:
        for path in folder.iterdir():
            if path.is_file():
                found[prefix + path.name] = path
            elif path.name:
                found |= _objects(path, f"{prefix}{path.name}/")
    except FileNotFoundError:  # object stores do not know empty folders
        pass
    return found
