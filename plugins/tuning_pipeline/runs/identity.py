"""Which run this is: its DAG, its run id, and the moment it was made.

The moment is what tells a run from one that was deleted and triggered again under the same id. Airflow keeps it out of
tasks' sight, so the first task of the chain notes one in its task state store, which lives as long as the run does:
retries and clearing leave it alone. The other tasks find it in that task's XCom. Whoever rewrites that XCom makes a
stranger of their own run and of no other: the DAG and the run id are Airflow's word.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stub leaves it out

from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.target_sections import section_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tuning_pipeline.study_file.settings import StudySettings

# Key in the first task's state store, and of its XCom.
MADE = "run_made"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


@dataclass(frozen=True)
class RunIdentity:
    """A run of a DAG.

    Attributes:
        dag_id, run_id: As Airflow has them.
        made: When its first task began (ISO 8601, UTC); empty for a run that an earlier version began.
    """

    dag_id: str
    run_id: str
    made: str = ""

    @property
    def key(self) -> str:
        """What the run's trials are marked with: the run id, and a hash that tells it from any other of that id."""
        if not self.made:
            return self.run_id
        whole = f"{self.dag_id}\n{self.run_id}\n{self.made}"
        return f"{self.run_id}.{hashlib.sha256(whole.encode()).hexdigest()[:8]}"

    def __str__(self) -> str:
        return f"{self.run_id} of DAG {self.dag_id}"


def first_task(settings: StudySettings) -> str:
    """Id of the task that a run of this study begins with."""
    return section_of(settings).first_task


def identity_of(settings: StudySettings, context: Context) -> RunIdentity:
    """The identity of the run that a task belongs to.

    Raises:
        TaskError: What the first task noted was changed in Airflow's XComs.
    """
    run, ti = context["dag_run"], context["ti"]
    first = first_task(settings)
    if ti.task_id == first:
        made = _own_moment(context)
        ti.xcom_push(key=MADE, value=made)
    else:
        made = _checked(ti.xcom_pull(task_ids=first, key=MADE))
    return RunIdentity(run.dag_id, run.run_id, made)


def _own_moment(context: Context) -> str:
    kept = context["task_state_store"].get(MADE)
    if kept is None:
        kept = datetime.now(UTC).isoformat(timespec="microseconds")
        context["task_state_store"].set(MADE, kept, retention=NEVER_EXPIRE)
    return _checked(kept)


def _checked(moment: Any) -> str:
    if moment is None:
        return ""
    if not isinstance(moment, str) or not _MOMENT.fullmatch(moment):
        raise TaskError(
            Failure(
                what=f"XCom {MADE} of this run's first task is no longer what the task noted",
                next="Clear the run's first task: it notes it again.",
            )
        )
    return moment
