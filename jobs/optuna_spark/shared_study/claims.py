"""The tables that keep the number of trials exact with `coordination: database`, and the SQL for them.

A run has one row with its counts (`Tally`). Every transaction that begins or ends a trial changes this row first, so
these transactions come one after the other, whatever worker makes them. The counts change in the same transaction as
the trial: no crash can come between the two.

A running trial has a row as well, its claim. Its worker raises the claim's version while it works. Who sees the same
version for too long, by its own clock, takes the worker for dead and fails the trial. So no two machines' clocks are
ever compared. What a worker writes of its trial is refused when its claim is gone.

Parameters to try are queued in a table of their own, and not as waiting trials: what is left over when a run ends would
stay in the study.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from optuna_spark.database.connection import Statement, Transaction
from optuna_spark.database.mysql_errors import is_overtaken
from optuna_spark.database.retries import retried
from optuna_spark.shared_study.tally import Tally, stopped
from optuna_spark.stop_and_retry import EXHAUSTED
from optuna_spark.storage.optuna_tables import NEW_SYSTEM_ATTR, NEW_TRIAL
from optuna_spark.storage.trial_record import FIXED

_metadata = sa.MetaData()
# LONGTEXT in MySQL, where TEXT ends at 64 KiB.
_LONG = sa.Text().with_variant(sa.Text(2**24), "mysql").with_variant(sa.Text(2**24), "mariadb")


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    key = sa.Column("run_key", sa.String(64), primary_key=True)
    return sa.Table(name, _metadata, key, sa.Column("study_id", sa.Integer, nullable=False, index=True), *columns)


RUNS = _table(
    "optuna_spark_tallies",
    sa.Column("turn", sa.BigInteger, nullable=False),
    sa.Column("tally", _LONG, nullable=False),
)
CLAIMS = _table(
    "optuna_spark_running",
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("trial_id", sa.Integer, nullable=False),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
QUEUE = _table(
    "optuna_spark_queued",
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("entry", _LONG, nullable=False),
)

# Several runs may start at once on an empty database; one of them makes the tables.
make_tables = retried(_metadata.create_all, when=is_overtaken)

# Every transaction that begins or ends a trial starts with this one. It locks the row: others wait here.
_TURN = "UPDATE optuna_spark_tallies SET turn = turn + 1 WHERE run_key = %s"
_TALLY = "SELECT tally FROM optuna_spark_tallies WHERE run_key = %s"
_SAVE = "UPDATE optuna_spark_tallies SET tally = %s WHERE run_key = %s"
_NEW_RUN = "INSERT INTO optuna_spark_tallies (run_key, study_id, turn, tally) VALUES (%s, %s, 0, %s)"
_CLAIMS = "SELECT number, trial_id, token, version FROM optuna_spark_running WHERE run_key = %s"
# Every transaction that gives a trial its number locks the study's row, as Optuna does. SQLite is locked by then.
_LOCK_STUDY = "UPDATE studies SET study_name = study_name WHERE study_id = %s"
_LAST_NUMBER = "SELECT number FROM trials WHERE study_id = %s ORDER BY trial_id DESC LIMIT 1"
LAST_ID = "SELECT MAX(trial_id) FROM trials WHERE study_id = %s"
_THIS_TRIAL = f"({LAST_ID})"
_NEW_ATTR = NEW_SYSTEM_ATTR.replace("(%s, %s, %s)", f"({_THIS_TRIAL}, %s, %s)")
_TAKE_WAITING = "UPDATE trials SET state = 'RUNNING', datetime_start = %s WHERE trial_id = %s AND state = 'WAITING'"
_NEW_CLAIM = "INSERT INTO optuna_spark_running (run_key, study_id, number, trial_id, token, version)"
_BEAT = "UPDATE optuna_spark_running SET version = version + 1 WHERE run_key = %s AND number = %s AND token = %s"
_END_CLAIM = "DELETE FROM optuna_spark_running WHERE run_key = %s AND number = %s AND token = %s"
_END_STALE_CLAIM = "DELETE FROM optuna_spark_running WHERE run_key = %s AND number = %s AND version = %s"
_NEXT_QUEUED = "SELECT place, entry FROM optuna_spark_queued WHERE run_key = %s ORDER BY place LIMIT 1"
_UNQUEUE = "DELETE FROM optuna_spark_queued WHERE run_key = %s AND place = %s"
# The first one waits for whoever begins or ends a trial.
_CLEAR = (
    "DELETE FROM optuna_spark_tallies WHERE study_id = %s",
    "DELETE FROM optuna_spark_running WHERE study_id = %s",
    "DELETE FROM optuna_spark_queued WHERE study_id = %s",
)
_LAST_PLACE = "SELECT MAX(place) FROM optuna_spark_queued WHERE run_key = %s"
_QUEUE = "INSERT INTO optuna_spark_queued (run_key, study_id, place, entry) VALUES (%s, %s, %s, %s)"


@dataclass(frozen=True)
class Claim:
    """A running trial, as it was read. Its worker knows the token and raises the version."""

    number: int
    trial_id: int
    token: str
    version: int


@dataclass(frozen=True)
class Queued:
    """Parameters that one of the next trials is to have, and the notes that it begins with (storage/trial_marks.py)."""

    params: Mapping[str, Any]
    marks: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"params": dict(self.params), "marks": dict(self.marks)})

    @classmethod
    def from_json(cls, text: str) -> Queued:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Turn:
    """What came of asking for a trial: its claim, or None. `over`: no trial will begin any more."""

    claim: Claim | None = None
    over: bool = False


class Claims:
    """The rows of one start of a run, within transactions of the caller. Each start has a key of its own.

    Every method may run again in a new transaction, after one whose commit nobody confirmed.

    Args:
        key: Of this start. Who still works for an earlier start finds its rows gone, and changes nothing.
        study_id: The study.
    """

    def __init__(self, key: str, study_id: int) -> None:
        self.key, self._study_id = key, study_id

    def lock(self, transaction: Transaction) -> Tally | None:
        """Let nobody else begin or end a trial until this transaction ends; None if this start of the run is over."""
        turn, tally = transaction.run((_TURN, [(self.key,)]), (_TALLY, [(self.key,)]))
        return Tally.from_json(tally.rows[0][0]) if turn.matched else None

    def tally(self, transaction: Transaction) -> tuple[Tally | None, list[Claim]]:
        """The counts and the running trials, without a lock."""
        tally, claims = transaction.run((_TALLY, [(self.key,)]), (_CLAIMS, [(self.key,)]))
        return (Tally.from_json(tally.rows[0][0]) if tally.rows else None), [Claim(*row) for row in claims.rows]

    def saving(self, tally: Tally) -> Statement:
        """The statement that replaces the counts; after `lock`."""
        return _SAVE, [(tally.to_json(), self.key)]

    def begin(
        self, transaction: Transaction, token: str, start: str, marks: Mapping[str, Any], waiting: Sequence[Claim],
        *, is_free: bool = True,
    ) -> Turn:  # fmt: skip
        """Begin a trial, if the budget allows one.

        Args:
            transaction: Commits it.
            token: A new one for each trial that is asked for.
            start: The moment of the start, as it is stored.
            marks: The notes that a new trial begins with (storage/trial_marks.py).
            waiting: Trials of the study that were seen waiting; the first one that still waits is taken.
            is_free: Whether there is something to try for a trial that takes over no queued parameters. If not, the run
                ends with its running trials. One of them may yet be lost, and tried again.
        """
        mine, study = (self.key,), (self._study_id,)
        turn, tally_row, claim_rows, locked, last, queued = transaction.run(
            (_TURN, [mine]), (_TALLY, [mine]), (_CLAIMS, [mine]),
            (_LOCK_STUDY, [study]), (_LAST_NUMBER, [study]), (_NEXT_QUEUED, [mine]),
        )  # fmt: skip
        if not turn.matched or not locked.matched:
            return Turn(over=True)
        claims, tally = [Claim(*row) for row in claim_rows.rows], Tally.from_json(tally_row.rows[0][0])
        if landed := [claim for claim in claims if claim.token == token]:
            return Turn(landed[0])
        if not tally.left(len(claims)):
            return Turn(over=tally.over)
        number = last.rows[0][0] + 1 if last.rows else 0
        if queued.rows:
            place, entry = queued.rows[0]
            first = Queued.from_json(entry)
            return self._make(transaction, number, token, start, {**marks, **first.marks}, first.params, place)
        taken = self._take(transaction, waiting, token, start)
        if taken is not None or is_free:
            return taken or self._make(transaction, number, token, start, marks)
        if not claims:
            transaction.run_and_commit(self.saving(stopped(tally, EXHAUSTED)))
        return Turn(over=not claims)

    def _make(
        self, transaction: Transaction, number: int, token: str, start: str, marks: Mapping[str, Any],
        params: Mapping[str, Any] | None = None, place: int | None = None,
    ) -> Turn:  # fmt: skip
        study = self._study_id
        # How Optuna marks the parameters of a trial from `enqueue_trial`.
        attrs = marks if params is None else {**marks, FIXED: dict(params)}
        statements: list[Statement] = [
            (NEW_TRIAL, [(number, study, "RUNNING", start, None)]),
            (f"{_NEW_CLAIM} VALUES (%s, %s, %s, {_THIS_TRIAL}, %s, 0)", [(self.key, study, number, study, token)]),
            (_NEW_ATTR, [(study, key, json.dumps(value)) for key, value in attrs.items()]),
        ]
        if place is not None:
            statements.append((_UNQUEUE, [(self.key, place)]))
        *_, made = transaction.run_and_commit(*statements, (LAST_ID, [(study,)]))
        return Turn(Claim(number, made.rows[0][0], token, 0))

    def _take(self, transaction: Transaction, waiting: Sequence[Claim], token: str, start: str) -> Turn | None:
        for seen in waiting:
            (taken,) = transaction.run((_TAKE_WAITING, [(start, seen.trial_id)]))
            if taken.matched:
                row = (self.key, self._study_id, seen.number, seen.trial_id, token)
                transaction.run_and_commit((f"{_NEW_CLAIM} VALUES (%s, %s, %s, %s, %s, 0)", [row]))
                return Turn(Claim(seen.number, seen.trial_id, token, 0))
        return None

    def beat(self, claim: Claim) -> Statement:
        """Raises the version. It matches no row if the claim is gone."""
        return _BEAT, [(self.key, claim.number, claim.token)]

    def ending(self, claim: Claim) -> Statement:
        """Removes a claim, by its worker; after `lock`. It matches no row if the claim is gone."""
        return _END_CLAIM, [(self.key, claim.number, claim.token)]

    def ending_stale(self, claim: Claim) -> Statement:
        """Removes the claim of a worker that seems dead; after `lock`. It matches no row if the worker lives."""
        return _END_STALE_CLAIM, [(self.key, claim.number, claim.version)]

    def queue(self, transaction: Transaction, entries: Sequence[Queued]) -> None:
        """Queue parameters after those that are queued; after `lock`."""
        (last,) = transaction.run((_LAST_PLACE, [(self.key,)]))
        first = (last.rows[0][0] or 0) + 1
        rows = [(self.key, self._study_id, first + n, entry.to_json()) for n, entry in enumerate(entries)]
        transaction.run((_QUEUE, rows))

    def clear(self, transaction: Transaction) -> None:
        """Remove the rows of every start of every run of this study. Their workers change nothing from now on."""
        transaction.run(*((text, [(self._study_id,)]) for text in _CLEAR))

    def create(self, transaction: Transaction, tally: Tally, entries: Sequence[Queued]) -> None:
        """Make the rows of this start; after `clear`."""
        transaction.run((_NEW_RUN, [(self.key, self._study_id, tally.to_json())]))
        self.queue(transaction, entries)


def lock_study(study_id: int) -> tuple[Statement, Statement]:
    """Let nobody else add a trial until the transaction ends, and select the last trial's number."""
    return (_LOCK_STUDY, [(study_id,)]), (_LAST_NUMBER, [(study_id,)])


def new_token() -> str:
    return secrets.token_hex(16)
