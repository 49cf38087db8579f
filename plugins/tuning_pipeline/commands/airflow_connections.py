"""Airflow's connections for a process that is no task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from tuning_pipeline.study_file.study_file import StudyFile

_FIELDS = ("conn_type", "description", "host", "schema", "login", "password", "port")


def offer_connections(studies: Iterable[StudyFile]) -> None:
    """Let this process look up the connections of studies, to databases and MLflow, as a task does.

    Outside a task Airflow's SDK looks in the environment only. The `airflow` command asks the metadata database and
    secrets backends too; what it finds is put into this process's own environment, where no other one sees it.
    """
    named = {study.settings.connections.database for study in studies}
    named |= {study.settings.tracking.mlflow for study in studies if study.settings.tracking is not None}
    for conn_id in sorted(named):
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        if variable not in os.environ and (found := _ask_airflow(conn_id)) is not None:
            os.environ[variable] = json.dumps(found)


def _ask_airflow(conn_id: str) -> dict[str, Any] | None:
    """A connection as Airflow reads it from JSON; None where there is none, which whoever needs it says."""
    command = [sys.executable, "-m", "airflow", "connections", "get", conn_id, "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Airflow may print lines of its own before the answer.
    start = done.stdout.find("[{")
    if done.returncode != 0 or start < 0:
        return None
    found = json.loads(done.stdout[start:])[0]
    fields = {name: found[name] for name in _FIELDS if found.get(name) is not None}
    return fields | {"extra": found.get("extra_dejson") or {}}
