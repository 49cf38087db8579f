"""The rules of `retune` where trials run on Databricks: the same decisions, with the data and the trial over there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from databricks.sdk.errors import NotFound
from databricks.sdk.service.workspace import ObjectType

from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.retune import rules as retune
from tuning_pipeline.runs.begin import begin
from tuning_pipeline.targets.databricks.operator import TuneOnDatabricks
from tuning_pipeline.targets.databricks.upload import PURPOSE, upload_spec
from tuning_pipeline.targets.databricks.workspace import open_workspace, readable_errors
from tuning_pipeline.tasks.retune import best_params, skip_if_nobody_needs_it

if TYPE_CHECKING:
    from airflow.sdk import Context
    from databricks.sdk import WorkspaceClient

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.begin import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile
    from tuning_pipeline.targets.databricks.payload import RemoteFiles

MOUNTS = ("/Volumes/", "/Workspace/", "/dbfs/", "dbfs:/")
# Path, size and time of a file.
Fact = tuple[str, int, str]


class RescoreOnDatabricks(TuneOnDatabricks):
    """Submit one trial with the best parameters so far, into a study beside the real one."""

    def execute(self, context: Context) -> None:
        """Run it, unless nobody needs it."""
        skip_if_nobody_needs_it(self.study, context)
        super().execute(context)

    def run_of(self, context: Any) -> StudyRun:
        """The run, before its study is prepared."""
        return begin(self.study, context)

    def job_of(self, run: StudyRun, files: RemoteFiles) -> tuple[TuningSpec, RemoteFiles]:
        """One trial with the best parameters."""
        spec = retune.rescoring(run.spec, best_params(run))
        return spec, dataclasses.replace(files, spec=upload_spec(run.study, spec))

    def check_study(self, run: StudyRun) -> None:
        """The trial goes into a study of its own."""


def rescore_best_trial(study: StudyFile) -> RescoreOnDatabricks:
    """The best trial once more, on today's data."""
    return RescoreOnDatabricks(task_id="rescore_best_trial", study=study)


def data_fingerprint(study: StudyFile) -> str:
    """As `retune.data_fingerprint`, also for data in the workspace.

    Raises:
        TaskError: There is no such data, or the workspace does not answer.
    """
    data = study.settings.data
    if data is None or not data.path.startswith(MOUNTS):
        return retune.data_fingerprint(data)
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    with readable_errors(connection):
        try:
            facts = sorted(_files(open_workspace(connection), data.path))
        except NotFound:
            facts = []
    if not facts:
        raise TaskError(Failure(what=f"there is no data at {data.path} in the workspace", next="Correct data.path."))
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
