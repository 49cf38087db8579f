"""The one place that opens `data.path`: on which file system its files are, and which those are."""

from __future__ import annotations

import socket
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pyarrow import fs

from optuna_spark.data.files.fetch import check_digest, fetched_file, plain_path
from optuna_spark.data.files.listing import TableFile, TableFiles, list_files
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets


def table_files(data: DataSpec, secrets: DataSecrets | None = None) -> TableFiles:
    """The files of a table on this machine. Downloads it if `data.path` is a URL.

    Args:
        data: The table.
        secrets: The login of its connection, if it has one.

    Raises:
        DataError: There is no such file, it cannot be fetched, or it does not have the digest `data.sha256`.
    """
    local = fs.LocalFileSystem()
    given = [str(fetched_file(data, secrets or DataSecrets()))] if data.is_url else [*map(plain_path, data.paths)]
    paths = [str(Path(path).absolute()) for path in given]
    files = [file for path in paths for file in _files_at(local, path)]
    if data.sha256 is not None and not data.is_url:
        if len(files) != 1:
            raise DataError(f"sha256 is for one file and data.path means {len(files)}: remove data.sha256")
        check_digest(Path(files[0].path), data, data.sha256)
    if not data.names_in_errors:
        files = [_unnamed(file, paths, number, data) for number, file in enumerate(files, 1)]
    return TableFiles(tuple(files), local)


def _unnamed(file: TableFile, given: Collection[str], number: int, data: DataSpec) -> TableFile:
    """The file without its name in errors, unless that was given: names of files are the content of their folder."""
    return file if file.path in given else replace(file, name=f"file {number} of {data.location}")


def local_file(data: DataSpec, secrets: DataSecrets | None = None) -> Path:
    """The path of `data` on this machine, for whoever reads it otherwise: a file of any format, or a folder.

    Raises:
        DataError: As table_files; or there are several.
    """
    if data.is_url:
        return fetched_file(data, secrets or DataSecrets())
    if len(data.paths) > 1:
        raise DataError(f"data.path lists {len(data.paths)} files and data_file() is for one: use read_table()")
    path = Path(plain_path(data.location))
    if path.is_dir() and data.sha256 is None:
        return path
    files = table_files(data, secrets).files
    if len(files) > 1:
        raise DataError(f"data.path means {len(files)} files and data_file() is for one: use read_table()")
    return Path(files[0].path)


def absent_here(data: DataSpec) -> str | None:
    """Why this machine has none of the table's files; None if it has, can fetch them, or may not look."""
    if data.is_url or data.is_bundled:
        return None
    try:
        paths = [str(Path(plain_path(path)).absolute()) for path in data.paths]
    except DataError as error:  # of a scheme that only Spark knows
        return str(error)
    try:
        absent = [path for path in paths if list_files(fs.LocalFileSystem(), path) is None]
    except OSError:  # whoever reads them says what is wrong
        return None
    return _absent(absent[0]) if len(absent) == len(paths) else None


def _files_at(filesystem: fs.FileSystem, path: str) -> list[TableFile]:
    host = socket.gethostname()
    try:
        files = list_files(filesystem, path)
    except OSError as error:
        raise DataError(f"data.path {path!r} cannot be read on {host}: {error.strerror or 'it is refused'}") from None
    if files is None:
        raise DataError(_absent(path))
    if not files:
        raise DataError(
            f"data.path {path!r} on {host} is a folder that holds no file (names that begin with . or _ do not count)"
        )
    return files


def _absent(path: str) -> str:
    missing = "matches no file" if any(sign in path for sign in "*?[") else "does not exist"
    return (
        f"data.path {path!r} {missing} on {socket.gethostname()}: put the file where every Spark worker can read it, or"
        " give a URL, or use distribution dataframe"
    )
