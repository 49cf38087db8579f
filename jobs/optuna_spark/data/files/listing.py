"""Which files a path means: one file, all those of a folder, or those that match a pattern.

Works on any of Arrow's file systems (data/sources.py).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

from pyarrow import fs

# Hive's name for a folder of rows without a value.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class TableFile:
    """A file with rows of the table.

    Attributes:
        path: On its file system.
        version: A value that changes with its content.
        folders: The `name=value` of the folders that it lies in, below the path that was given; None for no value.
        name: What errors call it, where its path may not be told.
    """

    path: str
    version: Hashable = None
    folders: tuple[tuple[str, str | None], ...] = ()
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.path


@dataclass(frozen=True)
class TableFiles:
    """All files of a table, which are on one file system.

    Attributes:
        files: At least one, in the order of their rows.
        filesystem: What opens them.
    """

    files: tuple[TableFile, ...]
    filesystem: fs.FileSystem

    @property
    def version(self) -> tuple[Hashable, ...]:
        """A value that changes with the content of any: a reused Python worker must not train on an old table."""
        return tuple((file.path, file.version) for file in self.files)


def list_files(filesystem: fs.FileSystem, path: str) -> list[TableFile] | None:
    """The files that a path means, in the order of their names; None where nothing has that name.

    A folder means all files below it. A name with `*`, `?` or `[...]` in it is a pattern, unless there is a file of
    just that name. What begins with `.` or `_` is passed over: notes of programs that write tables, such as _SUCCESS.

    Raises:
        OSError: The file system refuses.
    """
    found = filesystem.get_file_info(path)
    if found.type != fs.FileType.NotFound:
        return [_table_file(info, path) for info in _below(filesystem, found)]
    base, *parts = _split(path)
    if not parts:
        return None
    matching = [filesystem.get_file_info(base or "/")]
    for part in parts:
        matching = [info for folder in matching for info in _children(filesystem, folder, part)]
    return [_table_file(info, base) for found in matching for info in _below(filesystem, found)] or None


def _split(path: str) -> Sequence[str]:
    """What stands before the first part that is a pattern, and the parts from there on."""
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if _PATTERN.search(part)), len(parts))
    return "/".join(parts[:first]), *parts[first:]


def _children(filesystem: fs.FileSystem, folder: fs.FileInfo, pattern: str) -> Iterator[fs.FileInfo]:
    if folder.type == fs.FileType.Directory:
        for info in _sorted(filesystem, fs.FileSelector(folder.path)):
            if fnmatchcase(info.base_name, pattern) and (not _is_note(info.base_name) or _is_note(pattern)):
                yield info


def _below(filesystem: fs.FileSystem, found: fs.FileInfo) -> Iterator[fs.FileInfo]:
    """A file, or all files below a folder."""
    if found.type != fs.FileType.Directory:
        yield found
        return
    for info in _sorted(filesystem, fs.FileSelector(found.path, recursive=True)):
        names = info.path.removeprefix(found.path).strip("/").split("/")
        if info.type == fs.FileType.File and not any(map(_is_note, names)):
            yield info


def _sorted(filesystem: fs.FileSystem, selector: fs.FileSelector) -> list[fs.FileInfo]:
    return sorted(filesystem.get_file_info(selector), key=lambda info: str(info.path))


def _is_note(name: str) -> bool:
    return name.startswith((".", "_"))


def _table_file(info: fs.FileInfo, base: str) -> TableFile:
    *folders, _ = info.path.removeprefix(base).strip("/").split("/")
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    values = ((unquote(name), None if value == NO_VALUE else unquote(value)) for name, _, value in pairs)
    return TableFile(info.path, (info.mtime_ns, info.size), tuple(values))
