"""The one place that opens `data.path`: on which file system its files are, and which those are.

Files of an object store may be replaced at any time, while one worker has read them and another has not. So their
versions are compared with those that the driver saw first, before a worker reads and after.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pyarrow import fs

from optuna_spark.data.files.fetch import check_content, check_digest, fetched_file, plain_path
from optuna_spark.data.files.listing import TableFile, TableFiles, list_files
from optuna_spark.data.stores.store_files import store_files, version_of
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets


def table_files(data: DataSpec, secrets: DataSecrets | None = None) -> TableFiles:
    """The files of a table on this machine. Downloads it if `data.path` is a URL.

    Args:
        data: The table.
        secrets: The login of its connection, if it has one.

    Raises:
        DataError: There is no such file, it cannot be fetched, it does not have the digest `data.sha256`, or it is
            another than `secrets.seen`.
    """
    if data.is_store:
        return _files_in_store(data, secrets or DataSecrets())
    local = fs.LocalFileSystem()
    given = [str(fetched_file(data, secrets or DataSecrets()))] if data.is_url else [*map(plain_path, data.paths)]
    paths = [str(Path(path).absolute()) for path in given]
    files = [file for path in paths for file in _files_at(local, path)]
    if data.sha256 is not None and not data.is_url:
        _check_one(files)
        check_digest(Path(files[0].path), data, data.sha256)
    if not data.names_in_errors:
        files = [_unnamed(file, paths, number, data) for number, file in enumerate(files, 1)]
    return TableFiles(tuple(files), local)


def _files_in_store(data: DataSpec, secrets: DataSecrets) -> TableFiles:
    files = store_files(data.paths, secrets.store)
    if secrets.seen and version_of(files) != secrets.seen:
        raise _changed(data, "the run began")
    if data.sha256 is not None:
        _check_one(files.files)
        with files.filesystem.open_input_stream(files.files[0].path, compression=None) as stream:
            check_content(stream, str(files.files[0]), data, data.sha256)
    if data.names_in_errors:
        return files
    shown = tuple(
        file if str(file) in data.paths else replace(file, name=f"file {number} of {data.location}")
        for number, file in enumerate(files.files, 1)
    )
    return replace(files, files=shown)


@contextmanager
def held_still(data: DataSpec, files: TableFiles | None, secrets: DataSecrets | None) -> Iterator[None]:
    """Reads `files` inside, and refuses what was read if files of an object store have changed meanwhile.

    Raises:
        DataError: They have; this also in place of what reading them raised.
    """
    try:
        yield
    except DataError:
        _check_unchanged(data, files, secrets)
        raise
    _check_unchanged(data, files, secrets)


def _check_unchanged(data: DataSpec, files: TableFiles | None, secrets: DataSecrets | None) -> None:
    if files is not None and data.is_store:
        store = secrets.store if secrets is not None else {}
        if store_files(data.paths, store).version != files.version:
            raise _changed(data, "this worker began to read it")


def _changed(data: DataSpec, since: str) -> DataError:
    return DataError(
        f"data.path {data.location} has changed since {since}, and all workers must train on the same bytes: start the"
        " run again when nothing writes there, or write new tables under new names"
    )


def seen_version(data: DataSpec, secrets: DataSecrets) -> str:
    """The version of a table in an object store, for `DataSecrets.seen`.

    Raises:
        DataError: As table_files.
    """
    return version_of(store_files(data.paths, secrets.store))


def _check_one(files: Collection[TableFile]) -> None:
    if len(files) != 1:
        raise DataError(f"sha256 is for one file and data.path means {len(files)}: remove data.sha256")


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
    if data.is_store:
        raise DataError(
            f"data.path {data.location} is in an object store, and data_file() gives files of this machine: use"
            " read_table(), or a URL with data.sha256"
        )
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
    if data.is_url or data.is_bundled or data.is_store:
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
