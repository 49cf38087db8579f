"""*Finish now* for a run whose study is a file that a cluster works on: a request in the run's folder there.

Where that folder is comes from the DAG alone (`StudyPlace`). The run's key is part of its path: somebody who rewrites
the run's XComs asks a run that does not exist.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache

from tuning_pipeline.failures import TaskError
from tuning_pipeline.pages.live_run import key_of
from tuning_pipeline.pages.tuning_run import TuningRun

log = logging.getLogger(__name__)

# How many seconds an answer of the workspace holds, however often the tab is looked at.
HOLDS_S = 10


def request_finish(run: TuningRun, by: str) -> None:
    """Ask a run to finish early. Its driver sees the request within a few seconds.

    Args:
        run: A run that tunes, with a place for it.
        by: Who asks, for the report.

    Raises:
        TaskError: The workspace does not take the request.
    """
    from tuning_pipeline.targets.databricks.finish_request import request_finish as request

    request(run.place.databricks, run.place.runs, key_of(run), by)
    _requested_by.cache_clear()


def requested_by(run: TuningRun) -> str:
    """Who has asked a run that tunes to finish; empty if nobody has, or if the workspace does not say."""
    if not run.place.runs or not run.is_tuning:
        return ""
    return _requested_by(run.place.databricks, run.place.runs, key_of(run), int(time.monotonic() / HOLDS_S))


@lru_cache(maxsize=256)
def _requested_by(conn_id: str, runs: str, key: str, _tick: int) -> str:
    # Not every installation has the packages of target databricks.
    try:
        from tuning_pipeline.targets.databricks.finish_request import requested_by as ask

        return ask(conn_id, runs, key) or ""
    except (TaskError, ImportError) as error:
        log.info("Whether run %s was asked to finish is not known: %s", key, error)
        return ""
