"""The study as a file on a Volume, which holds it between two runs with `database: driver`."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna_spark.storage.study_copy import sqlite_url
from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.exports.folders.paths import exports_base, folder_name
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.workspace.access import PURPOSE, RemoteFolders, open_workspace, readable_errors
from tuning_pipeline.targets.databricks.workspace.paths import study_copy_path

if TYPE_CHECKING:
    import sqlalchemy
    from airflow.sdk import Connection, ObjectStoragePath

    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)


@contextmanager
def study_file(study: StudyFile) -> Iterator[sqlalchemy.URL]:
    """The study on the Volume as a local SQLite database. If the block ends well, it is written back."""
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    path = study_copy_path(databricks_settings(study.settings), study.settings.study)
    with readable_errors(connection), tempfile.TemporaryDirectory() as scratch:
        folders, local = RemoteFolders(open_workspace(connection)), Path(scratch) / "study.db"
        content = folders.read(path)
        if content is not None:
            local.write_bytes(content)
        yield sqlite_url(local)
        folders.write(path, local.read_bytes())


def fetch_results(study: StudyFile) -> dict[str, Any]:
    """Copy the study from the Volume to the exports folder.

    Returns:
        study (the path of the copy) and bytes (its size).

    Raises:
        TaskError: There is no study on the Volume.
    """
    content = _read(require_connection(study.settings.connections.databricks, PURPOSE), study)
    target = results_path(study)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    log.info("Fetched %s bytes to %s", len(content), target)
    return {"study": str(target), "bytes": len(content)}


def _read(connection: Connection, study: StudyFile) -> bytes:
    path = study_copy_path(databricks_settings(study.settings), study.settings.study)
    with readable_errors(connection):
        content = RemoteFolders(open_workspace(connection)).read(path)
    if content is None:
        raise TaskError(
            Failure(
                what=f"there is no study at {path}",
                next="Somebody removed it, or databricks.files changed since the run; run again.",
            )
        )
    return content


@contextmanager
def study_copy(study: StudyFile) -> Iterator[sqlalchemy.URL]:
    """The study on the Volume as it is now, as a database to read.

    Raises:
        TaskError: There is no study on the Volume.
    """
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    with readable_errors(connection), tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "study.db"
        local.write_bytes(_read(connection, study))
        yield sqlite_url(local)


def results_path(study: StudyFile) -> ObjectStoragePath:
    """The path to which fetch_results copies the study."""
    return exports_base(study.exports_base()) / folder_name(study.settings.study) / "study.db"


@contextmanager
def fetched_study(study: StudyFile) -> Iterator[sqlalchemy.URL]:
    """The copy that fetch_results made, as a database to read."""
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch) / "study.db"
        local.write_bytes(results_path(study).read_bytes())
        yield sqlite_url(local)
