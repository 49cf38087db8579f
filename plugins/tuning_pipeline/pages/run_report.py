"""Finds and reads the report of a run.

The path of the report comes only from the DAG (its study and exports base) and from Airflow's list of runs. It never
comes from a request or an XCom, because everybody who may trigger a DAG may rewrite its XComs.
"""

from __future__ import annotations

import html
import json
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.xcom import XComModel
from airflow.sdk import ObjectStoragePath
from airflow.utils.session import create_session
from sqlalchemy import select

from tuning_pipeline.exports.paths import exports_base, folder_name
from tuning_pipeline.exports.whole_folders import local_path

# As in tuning_pipeline.tasks.steps, which is not imported because it is made for DAG files.
EXPORT_TASK = "export_best_trials"
REPORT = "report.html"


def export_folder(dag_id: str, run_id: str) -> ObjectStoragePath | None:
    """The folder of a run's export, which may not exist yet; None if this is not a tuning DAG."""
    with create_session() as session:
        dag = SerializedDagModel.get_dag(dag_id, session=session)
    task = dag.task_dict.get(EXPORT_TASK) if dag is not None else None
    if task is None or not task.doc_json:
        return None
    noted = json.loads(task.doc_json)
    return folder_below(noted["exports"], noted["study"], run_id)


def folder_below(base: str, study: str, run_id: str) -> ObjectStoragePath | None:
    """The folder of a run's export; None if it would be outside `base`, for example through a symlink."""
    whole = exports_base(base)
    folder = whole / folder_name(study) / folder_name(run_id)
    inside, around = local_path(folder), local_path(whole)
    if inside is not None and around is not None and not inside.resolve().is_relative_to(around.resolve()):
        return None
    return folder


def read_report(folder: ObjectStoragePath) -> bytes | None:
    """The report in an export folder; None if there is none yet.

    Raises:
        OSError: The report cannot be read.
    """
    try:
        return bytes((folder / REPORT).read_bytes())
    except FileNotFoundError:
        return None


def with_sentence(report: bytes, sentence: str) -> bytes:
    """The report with a sentence above it that was not known when it was written."""
    note = f'<main>\n<p class="note">{html.escape(sentence)}</p>'
    return report.replace(b"<main>", note.encode(), 1)


def returned(dag_id: str, run_id: str, task_id: str, key: str) -> Any:
    """An XCom of a run; None if there is none."""
    query = XComModel.get_many(run_id=run_id, dag_ids=dag_id, task_ids=task_id, key=key, limit=1)
    with create_session() as session:
        row = session.scalars(query).first()
        return XComModel.deserialize_value(row) if row is not None else None


def run_state(dag_id: str, run_id: str) -> str | None:
    """The state of a run; None if there is no such run."""
    query = select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    with create_session() as session:
        return session.scalar(query)
