"""Asks a run to finish early whose study is in the database of its driver, which nobody else reaches.

The request is a small file in the run's own folder in the workspace, where the driver looks every few seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_spark.storage.finish_file import FINISH_FILE, asked_by, request_text
from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.exports.folders.paths import folder_name
from tuning_pipeline.targets.databricks.workspace.access import PURPOSE, RemoteFolders, open_workspace, readable_errors
from tuning_pipeline.targets.databricks.workspace.paths import run_name
from tuning_pipeline.targets.databricks.workspace.runs import all_live_runs, writes_to
from tuning_pipeline.targets.databricks.workspace.upload import run_output

if TYPE_CHECKING:
    from databricks.sdk.service.jobs import BaseRun

    from tuning_pipeline.study_file.study_file import StudyFile

# How long somebody who waits for a page has patience with the workspace.
PAGE_S = 5


def request_finish(conn_id: str, runs: str, key: str, by: str) -> None:
    """Ask a run to finish early.

    Args:
        conn_id: Airflow connection of the workspace.
        runs: The folder in which each run of the study has its own (`StudyFile.runs_folder`).
        key: The run's key.
        by: Who asks, for the report.

    Raises:
        TaskError: The workspace does not take the request.
    """
    connection = require_connection(conn_id, PURPOSE)
    with readable_errors(connection):
        folders = RemoteFolders(open_workspace(connection, PAGE_S))
        folders.write(_path(runs, key), request_text(key, by).encode())


def requested_by(conn_id: str, runs: str, key: str) -> str | None:
    """Who asked a run to finish early, until the run has ended; None if nobody has. Arguments as above.

    Raises:
        TaskError: The workspace does not say.
    """
    connection = require_connection(conn_id, PURPOSE)
    with readable_errors(connection):
        content = RemoteFolders(open_workspace(connection, PAGE_S)).read(_path(runs, key))
    return None if content is None else asked_by(content, key)


def withdraw_finish(study: StudyFile, key: str) -> None:
    """Forget a request to a run that begins once more, such as one that came after the run had ended."""
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    with readable_errors(connection):
        RemoteFolders(open_workspace(connection)).delete(_path(study.runs_folder, key))


def finish_live_runs(study: StudyFile, by: str) -> list[str]:
    """Ask the runs that work on a study in the workspace to finish early. Returns their keys.

    Raises:
        TaskError: The workspace does not answer, or does not take the request.
    """
    conn_id = study.settings.connections.databricks
    connection = require_connection(conn_id, PURPOSE)
    with readable_errors(connection):
        keys = [key for run in all_live_runs(open_workspace(connection)) if (key := _key(study, run))]
    for key in keys:
        request_finish(conn_id, study.runs_folder, key, by)
    return keys


def _path(runs: str, key: str) -> str:
    return f"{runs}/{folder_name(key)}/{FINISH_FILE}"


def _key(study: StudyFile, run: BaseRun) -> str:
    """The key of a run that works on the study, from its name; empty if it does not, or is another Airflow's."""
    before, after = run_name(study.settings.study, "\n").split("\n")
    name = run.run_name or ""
    key = name[len(before) : len(name) - len(after)]
    ours = key and name == f"{before}{key}{after}" and writes_to(run, run_output(study, key))
    return key if ours else ""
