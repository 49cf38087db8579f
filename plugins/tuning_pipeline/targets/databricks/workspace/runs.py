"""Finds and ends the runs of a DAG run in the workspace, by their name and folder, because their ids may be lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from databricks.sdk.service.jobs import RunType

from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.retune.rescoring import rescore_study
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.workspace.access import PURPOSE, open_workspace, readable_errors
from tuning_pipeline.targets.databricks.workspace.paths import run_name

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.jobs import BaseRun

    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)

# A cancelled run takes about a minute to end its cluster.
PATIENCE_S = 600.0


def end_live_runs(study: StudyFile, run_id: str, output: str, patience_s: float = PATIENCE_S) -> list[str]:
    """Cancel all runs of a DAG run that have not ended, and wait for their end.

    Args:
        study: The study.
        run_id: The run's key.
        output: The run's output folder, which distinguishes it from a run of another Airflow with the same name.
        patience_s: How many seconds to wait for the end.

    Returns:
        The links of the cancelled runs.

    Raises:
        TaskError: The workspace does not answer, or a run does not end.
    """
    settings = study.settings
    connection = require_connection(settings.connections.databricks, PURPOSE)
    # Both tasks that submit runs: tune, and the one that runs the best trial again.
    names = {run_name(name, run_id) for name in (settings.study, rescore_study(settings.study))}
    with readable_errors(connection):
        client = open_workspace(connection)
        found = live_runs(client, names, output)
        for run in found:
            log.info("Cancelling run %s: %s", run.run_id, run.run_page_url)
            client.jobs.cancel_run(run_id=run.run_id or 0)
        deadline = time.monotonic() + patience_s
        while left := live_runs(client, names, output) if found else []:
            if time.monotonic() > deadline:
                raise TaskError(_does_not_end(left[0], patience_s))
            time.sleep(min(databricks_settings(settings).poll_s, 10))
    return [str(run.run_page_url) for run in found]


def live_runs(client: WorkspaceClient, names: set[str], output: str) -> list[BaseRun]:
    """The runs with one of these names that have not ended, and that write to this folder."""
    return [run for run in all_live_runs(client) if run.run_name in names and writes_to(run, output)]


def all_live_runs(client: WorkspaceClient) -> Iterator[BaseRun]:
    """The runs that somebody submitted and that have not ended."""
    return client.jobs.list_runs(active_only=True, run_type=RunType.SUBMIT_RUN, expand_tasks=True)


def writes_to(run: BaseRun, output: str) -> bool:
    """Whether a run writes to this folder."""
    scripts = [task.spark_python_task for task in run.tasks or [] if task.spark_python_task]
    return any(output in (script.parameters or []) for script in scripts)


def _does_not_end(run: BaseRun, patience_s: float) -> Failure:
    return Failure(
        what=f"run {run.run_id} was cancelled and still has not ended after {patience_s:g} s",
        next="Look at it in the workspace, and end its cluster there if it costs money for nothing.",
        where=str(run.run_page_url),
        retry=True,
    )
