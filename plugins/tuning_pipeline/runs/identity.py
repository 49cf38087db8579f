"""A run's identity: its DAG, its run id, and the moment at which it was made.

The moment distinguishes a run from an earlier one that was deleted and triggered again under the same id. Airflow does
not show a run's own moment to its tasks. So the first task stores one in its task state store, which keeps it as long
as the run exists, also when the task is retried or cleared. The other tasks read it from that task's XCom.

Somebody who rewrites that XCom only makes their own run look like an unknown one. They cannot make it look like another
run, because DAG and run id come from Airflow.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stub leaves it out

from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.targets.registry import kind_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tuning_pipeline.study_file.settings import StudySettings

# The key of the moment, both in the first task's state store and in its XCom.
MADE = "run_made"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


@dataclass(frozen=True)
class RunIdentity:
    """A run of a DAG.

    Attributes:
        dag_id, run_id: Airflow's ids.
        made: When the first task began (ISO 8601, UTC); empty for a run that began under an earlier version.
    """

    dag_id: str
    run_id: str
    made: str = ""

    @property
    def key(self) -> str:
        """The id that the run's trials have: Airflow's run id, and a hash that makes it unique."""
        if not self.made:
            return self.run_id
        whole = f"{self.dag_id}\n{self.run_id}\n{self.made}"
        return f"{self.run_id}.{hashlib.sha256(whole.encode()).hexdigest()[:8]}"

    def __str__(self) -> str:
        return f"{self.run_id} of DAG {self.dag_id}"


def first_task(settings: StudySettings) -> str:
    """The id of the first task in a run of this study."""
    return kind_of(settings).first_task


def identity_of(settings: StudySettings, context: Context) -> RunIdentity:
    """The identity of the run that a task belongs to.

    Raises:
        TaskError: The XCom of the first task was changed.
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
