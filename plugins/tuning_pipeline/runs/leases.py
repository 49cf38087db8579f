"""Who works on a study, as a row in the study's own database: one holder at a time, whatever Airflow it runs in.

Times are the database server's: no clocks of two machines are compared. Rows are changed by compare-and-swap on their
version, so any SQL database does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from optuna_spark.storage.engine import engine_options
from optuna_spark.storage.retries import retried
from optuna_spark.storage.url import parse_url
from tuning_pipeline.database.lease_table import LEASES
from tuning_pipeline.runs.identity import RunIdentity


@dataclass(frozen=True)
class Lease:
    """A study's holder.

    Attributes:
        holder: The run.
        since_s: When it took the lease, in seconds since 1970 by the database's clock.
        idle_s: How long ago it renewed it.
        busy: Whether one of its tasks was at work then.
        version: Of the row.
    """

    holder: RunIdentity
    since_s: int
    idle_s: int
    busy: bool
    version: int


def lease_engine(url: str | sa.URL) -> sa.Engine:
    """An engine for `Leases`; disposing of it is the caller's."""
    return sa.create_engine(parse_url(url), **engine_options(url))


class Leases:
    """The leases of one database. Thread-safe: each call is one short transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @retried
    def take(self, study: str, who: RunIdentity, is_free: Callable[[Lease], bool]) -> Lease | None:
        """Make `who` the holder of a study; again where it is already.

        Args:
            study: Name of the study.
            who: The run.
            is_free: Whether another run's lease counts no more.

        Returns:
            None when `who` holds it now, else the lease that stands in the way.
        """
        while True:
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
        """The study's lease; None when nobody holds one."""
        columns = (LEASES.c.dag_id, LEASES.c.run_id, LEASES.c.made, LEASES.c.since_s, LEASES.c.renewed_s)
        query = sa.select(*columns, LEASES.c.busy, LEASES.c.version, self._now()).where(_is(study))
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return Lease(RunIdentity(*row[:3]), int(row[3]), int(row[7]) - int(row[4]), bool(row[5]), int(row[6]))

    @retried
    def renew(self, study: str, who: RunIdentity, *, busy: bool) -> bool:
        """Say that `who` is still there, and whether it is at work. Returns whether it holds the lease."""
        found = self.look(study)
        return found is not None and found.holder == who and self._change(study, found, busy=busy)

    @retried
    def give_back(self, study: str, who: RunIdentity) -> None:
        """Free the study, if `who` holds it."""
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
            return False  # another run was a moment earlier
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
