"""Leases: a row in the study's database says which run works on the study.

A study has one holder at a time, even if its runs belong to different Airflows. All times are the database server's, so
no two machines' clocks are compared. Rows change by compare-and-swap on their version, which works in any SQL database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from optuna_spark.database.engine import engine_options
from optuna_spark.database.retries import retried
from optuna_spark.database.url import parse_url
from tuning_pipeline.database.lease_table import LEASES
from tuning_pipeline.runs.identity import RunIdentity


@dataclass(frozen=True)
class Lease:
    """The lease on a study.

    Attributes:
        holder: The run that holds it.
        since_s: When the run took it, in seconds since 1970 by the database's clock.
        idle_s: How many seconds ago the run renewed it.
        busy: Whether a task of the run was at work at that moment.
        version: Version of the row.
    """

    holder: RunIdentity
    since_s: int
    idle_s: int
    busy: bool
    version: int


def lease_engine(url: str | sa.URL) -> sa.Engine:
    """An engine for `Leases`. The caller disposes of it."""
    return sa.create_engine(parse_url(url), **engine_options(url))


class Leases:
    """The leases of one database. Thread-safe: each call is one short transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @retried
    def take(self, study: str, who: RunIdentity, is_free: Callable[[Lease], bool]) -> Lease | None:
        """Make `who` the holder of a study, or renew its lease.

        Args:
            study: Name of the study.
            who: The run.
            is_free: Whether another run's lease has lost its holder.

        Returns:
            None if `who` holds the lease now, else the lease of another run.
        """
        while True:  # until no other run has changed the row between look and change
            found = self.look(study)
            if found is None:
                if self._insert(study, who):
                    return None
            elif found.holder == who:
                if self._change(study, found, busy=True):
                    return None
            elif not is_free(found):
                return found
            elif self._change(study, found, **_row(who), since_s=self._now(), busy=True):
                return None

    @retried
    def look(self, study: str) -> Lease | None:
        """The study's lease; None if no run holds it."""
        columns = (LEASES.c.dag_id, LEASES.c.run_id, LEASES.c.made, LEASES.c.since_s, LEASES.c.renewed_s)
        query = sa.select(*columns, LEASES.c.busy, LEASES.c.version, self._now()).where(_is(study))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return Lease(RunIdentity(*row[:3]), int(row[3]), int(row[7]) - int(row[4]), bool(row[5]), int(row[6]))

    @retried
    def renew(self, study: str, who: RunIdentity, *, busy: bool) -> bool:
        """Renew the lease of `who`, and store whether it is at work. Returns whether it holds the lease."""
        found = self.look(study)
        return found is not None and found.holder == who and self._change(study, found, busy=busy)

    @retried
    def give_back(self, study: str, who: RunIdentity) -> None:
        """Remove the lease, if `who` holds it."""
        mine = [getattr(LEASES.c, name) == value for name, value in _row(who).items()]
        with self._engine.begin() as connection:
            connection.execute(sa.delete(LEASES).where(_is(study), *mine))

    def _insert(self, study: str, who: RunIdentity) -> bool:
        now = self._now()
        row = {"study_key": _key(study), "study": study, "since_s": now, "renewed_s": now, "busy": True, "version": 0}
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(LEASES).values(**row, **_row(who)))
        except sa.exc.IntegrityError:
            return False  # another run has inserted its row first
        return True

    def _change(self, study: str, found: Lease, **values: Any) -> bool:
        update = sa.update(LEASES).where(_is(study), LEASES.c.version == found.version)
        with self._engine.begin() as connection:
            changed = connection.execute(update.values(renewed_s=self._now(), version=found.version + 1, **values))
        return bool(changed.rowcount)

    def _now(self) -> sa.ColumnElement[Any]:
        if self._engine.dialect.name == "sqlite":
            return sa.cast(sa.func.strftime("%s", "now"), sa.BigInteger)
        return sa.func.unix_timestamp()


def _row(who: RunIdentity) -> dict[str, str]:
    return {"dag_id": who.dag_id, "run_id": who.run_id, "made": who.made}


def _key(study: str) -> str:
    return hashlib.sha256(study.encode()).hexdigest()


def _is(study: str) -> sa.ColumnElement[bool]:
    return LEASES.c.study_key == _key(study)
