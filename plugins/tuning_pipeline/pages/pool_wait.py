"""Why a task of a run does not begin: other tasks hold the slots of its Airflow pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

MAX_NAMED = 3


@dataclass(frozen=True)
class PoolWait:
    """A task that waits for its pool.

    Attributes:
        task_id: The task.
        pool: The pool's name.
        slots: How many slots the pool has.
        holders: DAG id and run id of each run that holds one.
    """

    task_id: str
    pool: str
    slots: int
    holders: tuple[tuple[str, str], ...]

    def sentence(self, may_read: Callable[[str], bool]) -> str:
        """For the tab. Runs of DAGs that its reader may not read have no name there."""
        slots = "the slot" if self.slots == 1 else f"one of {self.slots} slots"
        readable = (holder for holder in self.holders if may_read(holder[0]))
        named = [f"run {run_id} of {dag_id}" for dag_id, run_id in islice(readable, MAX_NAMED)]
        if others := len(self.holders) - len(named):
            named.append(f"{others} other run{'s' if others > 1 else ''}")
        by = f", held by {' and '.join(named)}" if named else ": an administrator of Airflow gives it slots"
        return f"Task {self.task_id} waits for {slots} of pool {self.pool}{by}."


def pool_wait(dag_id: str, run_id: str) -> PoolWait | None:
    """What a run waits for; None if none of its tasks waits for a slot."""
    waiting = select(TaskInstance.task_id, TaskInstance.pool, TaskInstance.pool_slots).where(
        TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.state == TaskInstanceState.SCHEDULED
    )
    with create_session() as session:
        task = session.execute(waiting.limit(1)).first()
        pool = None if task is None else session.scalar(select(Pool).where(Pool.pool == task.pool))
        if task is None or pool is None or pool.slots < 0:  # a pool of -1 slots has no limit
            return None
        holding = select(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.pool_slots).where(
            TaskInstance.pool == pool.pool, TaskInstance.state.in_(pool.get_occupied_states())
        )
        held = session.execute(holding.order_by(TaskInstance.queued_dttm)).all()
        if sum(row.pool_slots for row in held) + task.pool_slots <= pool.slots:
            return None
        holders = dict.fromkeys((str(row.dag_id), str(row.run_id)) for row in held)
        return PoolWait(str(task.task_id), str(pool.pool), int(pool.slots), tuple(holders))
