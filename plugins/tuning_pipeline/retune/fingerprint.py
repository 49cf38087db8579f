"""The fingerprint of the data, which shows whether the data has changed since the last run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna_spark.errors import DataError
from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.database.store_connections import GOOGLE, store_secrets
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from optuna_spark.spec.data import DataSpec


def data_fingerprint(data: DataSpec | None) -> str:
    """A text that changes with the data. It is made from names, sizes and times of files, whose content is not read.

    Raises:
        TaskError: This machine cannot list the path.
    """
    if data is None:
        return ""
    if data.is_bundled or data.is_url:  # not fetched: a URL's content counts as new only with another digest or path
        return data.sha256 or data.location
    if data.is_catalog_table:
        raise _unseen(data.location, "it is a table of Spark's catalog, not files")
    if data.is_store and (secrets := _secrets_of_store(data)) is not None:
        return _of_store(data, secrets)
    facts = [
        (name, *(str(found.get(key)) for key in _FILE_FACTS))
        for path in data.paths
        for name, found in sorted(_found(path, data.connection).items())
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _secrets_of_store(data: DataSpec) -> Mapping[str, str] | None:
    """What Arrow opens the store with; None where the connection is one that only fsspec takes."""
    if data.connection is None:
        return {}
    connection = require_connection(data.connection, "data.connection")
    return None if connection.conn_type == GOOGLE else store_secrets(connection, data)


def _of_store(data: DataSpec, secrets: Mapping[str, str]) -> str:
    from optuna_spark.data.stores.store_files import store_files, version_of  # loads Arrow, for these tables alone

    try:
        return version_of(store_files(data.paths, secrets))
    except DataError as error:
        raise _unseen(data.location, str(error)) from None


def _found(given: str, connection: str | None) -> Mapping[str, Mapping[str, Any]]:
    """The files of one path, which may be a folder or a pattern, and what their file system knows of each."""
    from airflow.sdk import ObjectStoragePath

    try:
        path = ObjectStoragePath(given if "://" in given else f"file://{given}", conn_id=connection)
        files: dict[str, Mapping[str, Any]] = path.fs.find(path.path, detail=True)
        if not files and re.search(r"[*?\[]", path.path):
            for matching in path.fs.glob(path.path):
                files |= path.fs.find(matching, detail=True)
    except (OSError, ImportError, ValueError) as error:
        raise _unseen(given, str(error)) from error
    if not files:
        raise _unseen(given, "there is no file")
    return files


# The names that different file systems have for size, time of change, and hash of the content.
_FILE_FACTS = ("size", "mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "md5Hash")


def _unseen(path: str, why: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"rule new_data cannot look at the data {path} from Airflow",
            why=why,
            next="Use a path or object store URL that the Airflow worker can list, or rule: always or drift.",
        )
    )
