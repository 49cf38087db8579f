"""Lets one run at a time work on a study: each task of a run holds the study's lease while it works.

A run takes the lease before it changes anything, and keeps it until its export is written. It also keeps the lease
between two of its tasks, however long the second one waits for a slot. Another run waits without a worker slot: its
task is rescheduled every 20 s, and logs which run holds the study. Under `airflow dags test` the task waits in its
process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException, TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

from tuning_pipeline.database.lease_table import make_lease_table
from tuning_pipeline.runs.leases import Lease, Leases, lease_engine

if TYPE_CHECKING:
    import sqlalchemy

    from tuning_pipeline.runs.identity import RunIdentity

log = logging.getLogger(__name__)

WAIT = timedelta(seconds=20)
BEAT_S = 10.0
# A task at work renews the lease every BEAT_S. A task that has not done so for DEAD_S was killed.
DEAD_S = 60
# Between two tasks, a run that this Airflow does not know keeps its lease for so long: it may be another Airflow's.
STRANGER_S = 300
UNFINISHED = ["queued", "running"]


@contextmanager
def held_study(study: str, who: RunIdentity, url: sqlalchemy.URL, *, last: bool = False) -> Iterator[None]:
    """Hold the study's lease while the block runs.

    Args:
        study: Name of the study.
        who: The run.
        url: The study's database.
        last: Whether to give the lease back if the block ends well, because no later task of the run needs it.

    Raises:
        AirflowRescheduleException: Another run holds the lease. Airflow runs the task again later.
    """
    engine = lease_engine(url)
    leases = Leases(engine)
    try:
        make_lease_table(engine)
        while (other := leases.take(study, who, lambda lease: _is_free(lease, who))) is not None:
            _tell(study, other)
            if not _is_by_hand():
                raise _come_again()
            time.sleep(WAIT.total_seconds())
        with _ended(leases, study, who, last), _renewed(leases, study, who):
            yield
    finally:
        engine.dispose()


@contextmanager
def _ended(leases: Leases, study: str, who: RunIdentity, last: bool) -> Iterator[None]:
    """After the block, give the lease back if no later task of the run needs it, else keep it for that task."""
    give_back = True
    try:
        yield
        give_back = last
    except BaseException as error:
        give_back = _ends_the_run(error)
        raise
    finally:
        try:
            if give_back:
                leases.give_back(study, who)
            else:
                leases.renew(study, who, busy=False)
        except Exception as error:  # noqa: BLE001  # it must not replace the task's own result or error
            log.warning("The lease on study %s could not be given back: %s", study, error)


@contextmanager
def _renewed(leases: Leases, study: str, who: RunIdentity) -> Iterator[None]:
    """Renew the lease in a thread while the block runs."""
    ended = threading.Event()
    beat = threading.Thread(target=_renew, args=(leases, study, who, ended), daemon=True, name="study-lease")
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()


def _renew(leases: Leases, study: str, who: RunIdentity, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        try:
            if not leases.renew(study, who, busy=True):
                log.warning("Another run has taken study %s: this one had not renewed its lease for too long", study)
                return
        except Exception as error:  # noqa: BLE001  # if the database is gone, the task's own work fails and says so
            log.warning("The lease on study %s could not be renewed: %s", study, error)


def _ends_the_run(error: BaseException) -> bool:
    """Whether, after this error, no further task of the run will run unless somebody clears one."""
    if isinstance(error, AirflowRescheduleException | TaskDeferred):
        return False
    if isinstance(error, AirflowFailException | AirflowSkipException | KeyboardInterrupt):  # the last: `dags test`
        return True
    ti: Any = get_current_context()["ti"]
    return bool(ti.try_number > ti.max_tries)


def _is_free(lease: Lease, who: RunIdentity) -> bool:
    """Whether a lease may be taken over, because its holder has ended or was killed."""
    if lease.busy:
        return lease.idle_s > DEAD_S
    holder, ti = lease.holder, get_current_context()["ti"]
    if (holder.dag_id, holder.run_id) == (who.dag_id, who.run_id):
        # The same ids, but made at another moment: a run that was deleted, or one of another Airflow.
        return lease.idle_s > STRANGER_S
    if ti.get_dr_count(holder.dag_id, run_ids=[holder.run_id], states=UNFINISHED):
        return False
    # The holder has ended, or this Airflow does not know it.
    return bool(ti.get_dr_count(holder.dag_id, run_ids=[holder.run_id])) or lease.idle_s > STRANGER_S


def _is_by_hand() -> bool:
    """Whether `airflow dags test` runs the task in its own process.

    Such a task has no worker slot to free. And it must not be rescheduled: a scheduler that runs at the same time would
    take it for one of its own.
    """
    return isinstance(task_runner.SUPERVISOR_COMMS, InProcessSupervisorComms)


def _tell(study: str, other: Lease) -> None:
    since = datetime.fromtimestamp(other.since_s, UTC).isoformat(timespec="seconds")
    log.info(
        "[tuning] Waiting for study %s: run %s has been working on it since %s. It is free when that run has ended;"
        " if it never will, mark that run as failed.", study, other.holder, since,
    )  # fmt: skip


def _come_again() -> AirflowRescheduleException:
    return AirflowRescheduleException(datetime.now(UTC) + WAIT)  # type: ignore[no-untyped-call]  # Airflow left it without
