"""The fingerprint of data in a Databricks workspace, which shows whether it has changed since the last run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from databricks.sdk.errors import NotFound
from databricks.sdk.service.workspace import ObjectType

from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.retune import fingerprint as files_here
from tuning_pipeline.targets.databricks.workspace.access import PURPOSE, open_workspace, readable_errors

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from tuning_pipeline.study_file.study_file import StudyFile


MOUNTS = ("/Volumes/", "/Workspace/", "/dbfs/", "dbfs:/")

# Path, size and time of change of a file.
Fact = tuple[str, int, str]


def data_fingerprint(study: StudyFile) -> str:
    """The fingerprint of a study's data. For data outside of the workspace it is that of retune/fingerprint.py.

    Raises:
        TaskError: There is no such data, or the workspace does not answer.
    """
    data = study.settings.data
    if data is None or not all(path.startswith(MOUNTS) for path in data.paths):
        return files_here.data_fingerprint(data)
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    with readable_errors(connection):
        try:
            client = open_workspace(connection)
            facts = sorted(fact for path in data.paths for fact in _files(client, path))
        except NotFound:
            facts = []
    if not facts:
        raise TaskError(
            Failure(what=f"there is no data at {data.location} in the workspace", next="Correct data.path.")
        )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _files(client: WorkspaceClient, path: str) -> Iterator[Fact]:
    """The file at a path, or all files below it."""
    path = path.removeprefix("dbfs:") if path.startswith("dbfs:/Volumes/") else path
    if path.startswith("/Volumes/"):
        yield from _volume_files(client, path)
    elif path.startswith("/Workspace/"):
        yield from _workspace_files(client, path)
    else:
        for found in client.dbfs.list(f"/{path.removeprefix('dbfs:/').removeprefix('/dbfs/')}", recursive=True):
            yield str(found.path), int(found.file_size or 0), str(found.modification_time)


def _volume_files(client: WorkspaceClient, path: str) -> Iterator[Fact]:
    try:
        facts = client.files.get_metadata(path)
        yield path, int(facts.content_length or 0), str(facts.last_modified)
    except NotFound:
        for entry in client.files.list_directory_contents(path):
            if entry.is_directory:
                yield from _volume_files(client, str(entry.path))
            else:
                yield str(entry.path), int(entry.file_size or 0), str(entry.last_modified)


def _workspace_files(client: WorkspaceClient, path: str) -> Iterator[Fact]:
    found: Any = client.workspace.get_status(path)
    listed = [found] if found.object_type is not ObjectType.DIRECTORY else client.workspace.list(path, recursive=True)
    for item in listed:
        yield str(item.path), int(item.size or 0), str(item.modified_at)
