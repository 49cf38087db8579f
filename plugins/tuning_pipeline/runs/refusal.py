"""A study that a run works on is left alone by whoever changes studies from outside."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from tuning_pipeline.database.lease_table import make_lease_table
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.leases import Leases
from tuning_pipeline.runs.study_lease import DEAD_S, STRANGER_S


def working_run(engine: sa.Engine, name: str) -> RunIdentity | None:
    """The run that works on a study, also between two of its tasks; None if there is none, or it was killed."""
    make_lease_table(engine)
    lease = Leases(engine).look(name)
    return None if lease is None or (lease.busy and lease.idle_s > DEAD_S) else lease.holder


def refuse_while_held(engine: sa.Engine, name: str) -> None:
    """Refuse while a run holds the study: it would go on under a name that means another study, or none.

    Raises:
        TaskError: A run holds the study; says which.
    """
    make_lease_table(engine)  # a database that no run has used yet has none
    lease = Leases(engine).look(name)
    if lease is None or lease.idle_s > (DEAD_S if lease.busy else STRANGER_S):
        return
    since = datetime.fromtimestamp(lease.since_s, UTC).isoformat(timespec="seconds")
    raise TaskError(
        Failure(
            what=f"run {lease.holder} has been working on study {name!r} since {since}",
            next="Wait for its end, or mark it as failed, and try again some minutes later.",
        )
    )
