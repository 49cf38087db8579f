"""What tells today's data from yesterday's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from optuna_spark.spec.data import DataSpec


def data_fingerprint(data: DataSpec | None) -> str:
    """A text that changes when the data does: by names, sizes and times of its files, not by reading them.

    Raises:
        TaskError: The path cannot be looked at from here.
    """
    if data is None:
        return ""
    if data.is_bundled or data.is_url:
        return data.sha256 or data.path
    if data.is_catalog_table:
        raise _unseen(data.path, "it is a table of Spark's catalog, not files")
    from airflow.sdk import ObjectStoragePath

    try:
        path = ObjectStoragePath(data.path if "://" in data.path else f"file://{data.path}", conn_id=data.connection)
        files: Mapping[str, Mapping[str, Any]] = path.fs.find(path.path, detail=True)
    except (OSError, ImportError, ValueError) as error:
        raise _unseen(data.path, str(error)) from error
    if not files:
        raise _unseen(data.path, "there is no file")
    facts = [(name, *(str(found.get(key)) for key in _FILE_FACTS)) for name, found in sorted(files.items())]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


# What file systems call size, and time or hash of the content.
_FILE_FACTS = ("size", "mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "md5Hash")


def _unseen(path: str, why: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"rule new_data cannot look at the data {path} from Airflow",
            why=why,
            next="Use a path or object store URL that the Airflow worker can list, or rule: always or drift.",
        )
    )
