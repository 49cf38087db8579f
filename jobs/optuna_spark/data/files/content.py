"""What is in a file, by its first bytes and not by its name: compressed or not, Parquet or text."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow import fs

from optuna_spark.data.files.listing import TableFile
from optuna_spark.errors import DataError

# The magic bytes of https://en.wikipedia.org/wiki/List_of_file_signatures.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
}
_PARQUET = b"PAR1"
_HEAD = 1 << 16

# What reading bytes may raise: Arrow's own errors, the file system's, and those of Python's decompressors.
UNREADABLE = (pa.ArrowException, OSError, EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, NotImplementedError)


def compression_of(filesystem: fs.FileSystem, file: TableFile) -> str:
    """How a file is compressed, by its first bytes; empty if it is not."""
    with filesystem.open_input_stream(file.path, compression=None) as stream:
        head = stream.read(8)
    return next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), "")


def known_compression(filesystem: fs.FileSystem, file: TableFile) -> str:
    """The same, for an error about the file: empty also if it cannot be read now."""
    try:
        return compression_of(filesystem, file)
    except UNREADABLE:
        return ""


def open_content(filesystem: fs.FileSystem, file: TableFile) -> Any:
    """A stream of a file's content, decompressed.

    Raises:
        DataError: It is an archive of no file, or of several.
        UNREADABLE: It cannot be read.
    """
    kind = compression_of(filesystem, file)
    if kind in _OPENERS:
        return pa.PythonFile(_OPENERS[kind](filesystem.open_input_file(file.path), str(file)), mode="r")
    return filesystem.open_input_stream(file.path, compression=kind or None)


def _open_xz(file: Any, _name: str) -> Any:
    return lzma.open(file)


def _open_zip(file: Any, name: str) -> Any:
    archive = zipfile.ZipFile(file)
    # macOS adds a folder with notes of its own.
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise DataError(
            f"{name} holds {len(members)} files and must hold one: unpack it, and name its folder, or the files, in"
            " data.path"
        )
    if members[0].flag_bits & 1:
        raise DataError(f"{name} is locked with a password: unpack it, and name the file in data.path")
    return archive.open(members[0])


_OPENERS: dict[str, Callable[[Any, str], Any]] = {"xz": _open_xz, "zip": _open_zip}


def head_of(filesystem: fs.FileSystem, file: TableFile) -> bytes:
    """The first 64 KiB of a file's content, decompressed.

    Raises:
        DataError, UNREADABLE: As open_content.
    """
    with open_content(filesystem, file) as stream:
        return bytes(stream.read(_HEAD))


def local_head(path: str) -> bytes:
    """The same of a file on this machine."""
    return head_of(fs.LocalFileSystem(), TableFile(path))


def is_parquet(head: bytes) -> bool:
    return head.startswith(_PARQUET)


def first_line(head: bytes) -> str:
    """The first line of a text, whatever its encoding, as far as it can be told."""
    marks = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
    encoding = next((name for mark, name in marks if head.startswith(mark)), "utf-8")
    return io.StringIO(head.decode(encoding, errors="replace"), newline=None).readline()
