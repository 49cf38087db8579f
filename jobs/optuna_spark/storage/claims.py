"""The budget of a run as rows in the database. It keeps the number of trials exact with `coordination: database`.

There is one row, a claim, for each trial of the run. A worker takes a free claim, runs a trial for it, and marks it
done; if the trial fails, the claim becomes free again.

A claim changes by compare-and-swap on its version, which works in any SQL database. A worker renews the claim that it
holds, which raises the version. Another worker that sees the same version for too long, by its own clock, takes the
claim over. So no two machines' clocks are ever compared.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from optuna_spark.database.mysql_errors import is_overtaken
from optuna_spark.database.retries import retried

ClaimState = Literal["free", "claimed", "done"]

_metadata = sa.MetaData()

CLAIMS = sa.Table(
    "optuna_spark_claims",
    _metadata,
    sa.Column("run_key", sa.String(250), primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("worker", sa.String(250), nullable=False, default=""),
    sa.Column("trial", sa.Integer),
    sa.Column("version", sa.BigInteger, nullable=False, default=0),
)

RUNS = sa.Table(
    "optuna_spark_runs",
    _metadata,
    sa.Column("run_key", sa.String(250), primary_key=True),
    sa.Column("stop_reason", sa.Text),
)


# Several runs may start at once on an empty database; one of them makes the tables.
make_tables = retried(_metadata.create_all, when=is_overtaken)


@dataclass(frozen=True)
class Claim:
    """A claim as it was read. `worker` and `trial` are who holds it and the trial's number, if somebody does."""

    slot: int
    state: ClaimState
    worker: str
    trial: int | None
    version: int


@dataclass(frozen=True)
class Counts:
    """How many claims of a run are in each state."""

    free: int
    claimed: int
    done: int


class Claims:
    """The claims of one run. Thread-safe: each call is one short transaction.

    Args:
        engine: The database. The caller closes it.
        run_key: The run's key (driver/database_run.py).
    """

    def __init__(self, engine: sa.Engine, run_key: str) -> None:
        self.run_key = run_key
        self._engine = engine

    @retried
    def create(self, trials: int) -> None:
        """Make the claims that do not exist yet. A resumed run keeps those that are done."""
        make_tables(self._engine)
        with self._engine.begin() as connection:
            here = self._mine(sa.select(CLAIMS.c.slot), CLAIMS)
            slots = set(connection.execute(here).scalars())
            new = [self._row(slot) for slot in range(trials) if slot not in slots]
            if new:
                connection.execute(sa.insert(CLAIMS), new)
            # A resumed run must not stop for the reason that stopped its earlier start.
            connection.execute(sa.delete(RUNS).where(RUNS.c.run_key == self.run_key))
            connection.execute(sa.insert(RUNS), {"run_key": self.run_key, "stop_reason": None})

    def _row(self, slot: int) -> dict[str, Any]:
        return {"run_key": self.run_key, "slot": slot, "state": "free", "worker": "", "version": 0}

    @retried
    def counts(self) -> Counts:
        query = self._mine(sa.select(CLAIMS.c.state, sa.func.count()), CLAIMS).group_by(CLAIMS.c.state)
        with self._engine.connect() as connection:
            rows = {row[0]: row[1] for row in connection.execute(query)}
        return Counts(rows.get("free", 0), rows.get("claimed", 0), rows.get("done", 0))

    @retried
    def held(self) -> list[Claim]:
        """The claims that a worker holds."""
        return self._read(CLAIMS.c.state == "claimed", limit=None)

    @retried
    def take_free(self, worker: str) -> Claim | None:
        """Take a free claim for `worker`; None if there is none, or the run was stopped."""
        while free := self._read(sa.and_(CLAIMS.c.state == "free", self._is_going_on()), limit=64):
            # Workers begin at different claims, so that two of them rarely try the same one.
            start = random.randrange(len(free))  # noqa: S311  # spreads load, no secret
            for claim in free[start:] + free[:start]:
                # Asked again in the same statement: the run may have been stopped since the claims were read.
                taken = self.change(claim, "claimed", worker, None, self._is_going_on())
                if taken is not None:
                    return taken
        return None

    @retried
    def change(
        self,
        claim: Claim,
        state: ClaimState,
        worker: str,
        trial: int | None,
        only_if: sa.ColumnElement[bool] | None = None,
    ) -> Claim | None:
        """Change a claim; None if somebody else has changed it since it was read, or `only_if` does not hold."""
        update = (
            sa.update(CLAIMS)
            .where(CLAIMS.c.run_key == self.run_key, CLAIMS.c.slot == claim.slot)
            .where(CLAIMS.c.version == claim.version, sa.true() if only_if is None else only_if)
            .values(state=state, worker=worker, trial=trial, version=claim.version + 1)
        )
        with self._engine.begin() as connection:
            changed = connection.execute(update).rowcount
        return Claim(claim.slot, state, worker, trial, claim.version + 1) if changed else None

    @retried
    def stop(self, reason: str) -> None:
        """Let no worker take another claim. The first reason is kept."""
        going_on = sa.and_(RUNS.c.run_key == self.run_key, RUNS.c.stop_reason.is_(None))
        update = sa.update(RUNS).where(going_on).values(stop_reason=reason)
        with self._engine.begin() as connection:
            connection.execute(update)

    @retried
    def stop_reason(self) -> str | None:
        with self._engine.connect() as connection:
            return connection.execute(self._mine(sa.select(RUNS.c.stop_reason), RUNS)).scalar()

    def _is_going_on(self) -> sa.ColumnElement[bool]:
        stopped = self._mine(sa.select(RUNS.c.run_key), RUNS).where(RUNS.c.stop_reason.is_not(None))
        return ~stopped.exists()

    def _read(self, condition: sa.ColumnElement[bool], limit: int | None) -> list[Claim]:
        columns = (CLAIMS.c.slot, CLAIMS.c.state, CLAIMS.c.worker, CLAIMS.c.trial, CLAIMS.c.version)
        query = self._mine(sa.select(*columns), CLAIMS).where(condition).order_by(CLAIMS.c.slot).limit(limit)
        with self._engine.connect() as connection:
            return [Claim(*row) for row in connection.execute(query)]

    def _mine(self, query: sa.Select[Any], table: sa.Table) -> sa.Select[Any]:
        return query.where(table.c.run_key == self.run_key)
