"""A run as Airflow's own database knows it: its study's place, its tasks, and what they left for its tab.

Where the study and its exports are comes only from the DAG, never from a request or an XCom, because everybody who may
trigger a DAG may rewrite its XComs. What does come from an XCom is only shown, and may be forged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import and_, select

from tuning_pipeline.failures import CARD

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG

# As in tuning_pipeline.tasks.steps, .tasks.retune, .runs.identity and .runs.settings, which are made for DAG files.
EXPORT_TASK, TUNE_TASK, PUBLISHED = "export_best_trials", "tune", "published"
DECIDE, SKIPPED_BECAUSE = "decide_retune", "skipped_because"
MADE, PREPARE, SETTINGS = "run_made", "prepare_study", "settings"
TAG = "tuning"
# As in the Databricks provider, which not every installation has.
RUN_PAGE = "run_page_url"
ENDED, AT_WORK = ("success", "failed"), ("running", "deferred")
# The keys of all XComs that a tab shows.
LEFT = (MADE, SKIPPED_BECAUSE, SETTINGS, CARD, RUN_PAGE, PUBLISHED)


@dataclass(frozen=True)
class StudyPlace:
    """What a DAG says of its study: the author's word.

    Attributes:
        study: Its name.
        exports: Folder of all exports.
        database: Airflow connection of its database; empty if it lives in a file that a cluster works on.
        databricks: Airflow connection of the workspace; empty for other targets.
        trials: How many trials a run adds, unless its form says otherwise.
        runs: Folder in the workspace where each run has its own, which takes a request to finish; empty with a
            database.
    """

    study: str
    exports: str
    database: str = ""
    databricks: str = ""
    trials: int = 0
    runs: str = ""


@dataclass(frozen=True)
class TaskState:
    """A task of a run: its id, and Airflow's word for its state."""

    task_id: str
    state: str


@dataclass(frozen=True)
class TuningRun:
    """A run of a study's DAG.

    Attributes:
        dag_id, run_id: Airflow's ids.
        state: Airflow's word for it.
        place: Where its study is.
        tasks: Its tasks, in the order in which they began; those that wait come last.
    """

    dag_id: str
    run_id: str
    state: str
    place: StudyPlace
    tasks: Sequence[TaskState]

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @property
    def is_tuning(self) -> bool:
        """Whether the task that runs the trials is at work."""
        return not self.is_over and any(task.task_id == TUNE_TASK and task.state in AT_WORK for task in self.tasks)

    def left(self, task_id: str, key: str) -> Any:
        """An XCom of the run with one of the keys in LEFT, as it was at the first look; None if there is none."""
        return self._left.get((task_id, key))

    @cached_property
    def _left(self) -> Mapping[tuple[str, str], Any]:
        query = XComModel.get_many(run_id=self.run_id, dag_ids=self.dag_id, map_indexes=-1)
        with create_session() as session:
            rows: Any = session.scalars(query.where(XComModel.key.in_(LEFT)))
            return {(row.task_id, row.key): XComModel.deserialize_value(row) for row in rows}

    def cards(self) -> list[str]:
        """The cards of its failed tasks."""
        failed = [task.task_id for task in self.tasks if task.state in ("failed", "up_for_retry")]
        return [found for task_id in failed if isinstance(found := self.left(task_id, CARD), str)]


def tuning_run(dag_id: str, run_id: str) -> TuningRun | None:
    """The run; None if there is no such run, or its DAG tunes no study."""
    wanted = (DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    rows = select(TaskInstance.task_id, TaskInstance.state, TaskInstance.start_date)
    with create_session() as session:
        state = session.scalar(select(DagRun.state).where(*wanted))
        if state is None:
            return None
        found = list(session.execute(rows.where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)))
    place = study_place(dag_id)
    if place is None:
        return None
    found = sorted(found, key=lambda row: (row[2] is None, row[2] and row[2].timestamp()))
    tasks = [TaskState(str(task_id), str(state or "waiting")) for task_id, state, _ in found]
    return TuningRun(dag_id, run_id, str(state), place, tasks)


def newest_run(dag_id: str) -> str | None:
    """The id of a DAG's newest run that exported its result, else of its newest run; None if it has none.

    A run that `decide_retune` skips ends well, too, and has nothing to show.
    """
    newest = select(DagRun.run_id).where(DagRun.dag_id == dag_id).order_by(DagRun.run_after.desc(), DagRun.id.desc())
    of_run = and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
    exported = (TaskInstance.task_id == EXPORT_TASK, TaskInstance.state == TaskInstanceState.SUCCESS)
    with create_session() as session:
        found = session.scalar(newest.join(TaskInstance, of_run).where(*exported).limit(1))
        return found if found is not None else session.scalar(newest.limit(1))


def study_place(dag_id: str) -> StudyPlace | None:
    """What a DAG says of its study; None if it tunes none. The DAG is read once for each of its versions."""
    newest = SerializedDagModel.latest_item_select_object(dag_id)  # type: ignore[no-untyped-call]  # Airflow's
    with create_session() as session:
        digest = session.scalar(newest.with_only_columns(SerializedDagModel.dag_hash, maintain_column_froms=True))
        known = _places.get(dag_id)
        if known is not None and known[0] == digest:
            return known[1]
        row = session.scalar(newest)
        if row is None:
            return None
        place = _place_in(row.dag)
        _places[dag_id] = (row.dag_hash, place)
    return place


# By DAG: the hash of the version that was read, and what it says.
_places: dict[str, tuple[str, StudyPlace | None]] = {}


def _place_in(dag: SerializedDAG) -> StudyPlace | None:
    task = dag.task_dict.get(EXPORT_TASK)
    return _read(json.loads(task.doc_json)) if task is not None and task.doc_json else None


def study_places() -> list[StudyPlace]:
    """What all tuning DAGs say of their studies."""
    tagged = select(DagTag.dag_id).join(DagModel, DagModel.dag_id == DagTag.dag_id)
    with create_session() as session:
        dag_ids = session.scalars(tagged.where(DagTag.name == TAG, DagModel.is_stale.is_(False))).all()
    return [place for dag_id in sorted(dag_ids) if (place := study_place(dag_id)) is not None]


def _read(noted: Mapping[str, Any]) -> StudyPlace:
    names = ("study", "exports", "database", "databricks", "trials", "runs")
    return StudyPlace(**{name: noted[name] for name in names if name in noted})


def workspace_page(run: TuningRun, host: str) -> str:
    """The address of the run's page in its Databricks workspace; empty if there is none, or if it leads elsewhere.

    Args:
        run: The run.
        host: The workspace's host, from its connection.
    """
    found = run.left(TUNE_TASK, RUN_PAGE)
    try:
        parts = urlsplit(found if isinstance(found, str) else "")
        there = parts.hostname
    except ValueError:
        return ""
    wanted = urlsplit(host if "://" in host else f"//{host}").hostname
    return str(found) if parts.scheme in ("https", "http") and there and there == wanted else ""
