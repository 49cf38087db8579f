"""The files of a table in an object store, with the version of each."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
from pyarrow import fs

from optuna_spark.data.files.listing import TableFile, TableFiles, list_files
from optuna_spark.data.files.store_words import store_words
from optuna_spark.data.stores.opening import inner_path, open_store, outer_path, split
from optuna_spark.errors import DataError
from optuna_spark.spec.data import STORES

# What stores call the version of an object; the time of change alone counts whole seconds.
_VERSIONS = {"etag", "generation", "versionid", "crc32c", "md5hash"}
_THREADS = 16


def store_files(paths: Sequence[str], secrets: Mapping[str, str]) -> TableFiles:
    """The files of a table, in the order of the paths and of their names.

    Args:
        paths: Objects, folders or patterns, all in one store.
        secrets: What opens it, as `open_store` has them; empty for what this machine has.

    Raises:
        DataError: There are none, or the store does not give them.
    """
    store = _one_store(paths)
    try:
        filesystem = open_store(paths[0], secrets)
        files = [file for path in paths for file in _files_at(filesystem, path)]
        with ThreadPoolExecutor(min(_THREADS, len(files)), "versions") as pool:
            versions = list(pool.map(lambda file: _version(filesystem, file), files))
    except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
        words = store_words(error) or _own_words(error)
        raise DataError(f"{store} cannot be read on {socket.gethostname()}: {words}") from None
    return TableFiles(
        tuple(
            replace(file, version=(file.version, version), name=outer_path(paths[0], file.path))
            for file, version in zip(files, versions, strict=True)
        ),
        filesystem,
    )


def version_of(files: TableFiles) -> str:
    """A short text that changes with the content of any of the files."""
    return hashlib.sha256(repr(files.version).encode()).hexdigest()


def _one_store(paths: Sequence[str]) -> str:
    """The paths in words."""
    other = next((path for path in paths if not path.startswith(STORES) or _store(path) != _store(paths[0])), None)
    if other is not None:
        raise DataError(f"data.path must list files of one store, got {paths[0]} and {other}: copy them to one place")
    return f"data.path {paths[0]!r}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _store(path: str) -> tuple[str, str]:
    """Scheme and, of Azure's, account."""
    scheme, place, _ = split(path)
    return scheme.replace("s3a", "s3"), place.partition("@")[2]


def _files_at(filesystem: fs.FileSystem, path: str) -> list[TableFile]:
    inner = inner_path(path)
    files = list_files(filesystem, inner)
    if files:
        return files
    bucket = inner.partition("/")[0]
    if filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
        raise DataError(f"data.path {path!r}: there is no bucket {bucket!r} in this store: correct data.path")
    if files is not None:
        raise DataError(
            f"data.path {path!r} is a folder that holds no file (names that begin with . or _ do not count)"
        )
    missing = "matches no file" if any(sign in inner for sign in "*?[") else "does not exist"
    raise DataError(f"data.path {path!r} {missing} in bucket {bucket!r}: correct data.path, or put the file there")


def _version(filesystem: fs.FileSystem, file: TableFile) -> tuple[tuple[str, str], ...]:
    with filesystem.open_input_file(file.path) as opened:
        found = opened.metadata() or {}
    facts = {str(name).lower().replace("-", ""): value for name, value in found.items()}
    return tuple(sorted((name, str(value)) for name, value in facts.items() if name in _VERSIONS))


def _own_words(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "a file went away while it was looked at; start the run again"
    return f"its store cannot be opened ({type(error).__name__}): check what this machine or the connection has"
