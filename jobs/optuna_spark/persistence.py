"""Writing trials into Optuna's tables, many in one transaction.

Optuna's own RDBStorage takes about 31 statements and 7 commits for a trial of two parameters; its public
interface offers nothing for groups. So this module writes the rows itself, for the one schema version it
knows, and refuses any other. What it writes reads back through Optuna as if RDBStorage had written it
(a test compares the two).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from optuna_spark.errors import StorageError
from optuna_spark.records import Row, TrialRecord, attribute_texts, number_columns
from optuna_spark.storage import engine_options, parse_url

SCHEMA = "v3.2.0.a"  # alembic revision of Optuna 3.2 to 5.0, schema version 12
WRITER_KEY = "optuna_spark:writer"

TRIALS = sa.table(
    "trials",
    sa.column("trial_id", sa.Integer),
    sa.column("number", sa.Integer),
    sa.column("study_id", sa.Integer),
    sa.column("state", sa.String),
    sa.column("datetime_start", sa.DateTime),
    sa.column("datetime_complete", sa.DateTime),
)
PARAMS = sa.table(
    "trial_params",
    sa.column("trial_id", sa.Integer),
    sa.column("param_name", sa.String),
    sa.column("param_value", sa.Float),
    sa.column("distribution_json", sa.Text),
)
VALUES = sa.table(
    "trial_values",
    sa.column("trial_id", sa.Integer),
    sa.column("objective", sa.Integer),
    sa.column("value", sa.Float),
    sa.column("value_type", sa.String),
)
STEPS = sa.table(
    "trial_intermediate_values",
    sa.column("trial_id", sa.Integer),
    sa.column("step", sa.Integer),
    sa.column("intermediate_value", sa.Float),
    sa.column("intermediate_value_type", sa.String),
)


def _attributes(name: str, owner: str) -> sa.TableClause:
    return sa.table(name, sa.column(owner, sa.Integer), sa.column("key", sa.String), sa.column("value_json", sa.Text))


USER_ATTRS = _attributes("trial_user_attributes", "trial_id")
SYSTEM_ATTRS = _attributes("trial_system_attributes", "trial_id")
STUDY_ATTRS = _attributes("study_system_attributes", "study_id")

_IDS = (
    sa.select(TRIALS.c.trial_id, TRIALS.c.number)
    .where(TRIALS.c.study_id == sa.bindparam("study"), TRIALS.c.trial_id > sa.bindparam("last"))
    .order_by(TRIALS.c.trial_id)
)
_CHANGE_STATE = (
    sa.update(TRIALS)
    .where(TRIALS.c.trial_id == sa.bindparam("id"), TRIALS.c.state.in_(["RUNNING", "WAITING"]))
    .values(
        state=sa.bindparam("new_state"),
        datetime_start=sa.bindparam("start"),
        datetime_complete=sa.bindparam("complete"),
    )
)


@dataclass
class _Written:
    """What the database holds of a trial that has not finished."""

    trial_id: int
    state: TrialState
    params: set[str] = field(default_factory=set)
    user_attrs: dict[str, str] = field(default_factory=dict)
    system_attrs: dict[str, str] = field(default_factory=dict)
    steps: set[int] = field(default_factory=set)


class StudyWriter:
    """The only writer of a study while a run lasts. Used by one thread at a time.

    It signs a line in the study's system attributes and renews it in every transaction. So it knows, after a
    connection broke in the middle of a commit, whether that commit happened; and a second writer (a driver
    started while a forgotten one is still alive) takes the line over, which stops the first one.

    Args:
        storage: The storage the study is in; only read from.
        url: Its URL.
        study_name: Name of an existing study.
        run_id: Named in the line, for people.
    """

    def __init__(self, storage: RDBStorage, url: str | sa.URL, study_name: str, run_id: str) -> None:
        check_schema(storage)
        self._study_id = storage.get_study_id_from_name(study_name)
        self._study_name = study_name
        self._signature = {"run_id": run_id, "token": secrets.token_hex(8)}
        self._group = 0
        self._engine = _engine(url)
        self._connection: sa.Connection | None = None
        self._line = ""
        self._open: dict[int, _Written] = {}
        self._next_number = 0
        self._last_id = 0

    def take_over(self) -> None:
        """Become the study's writer; from now on an earlier one's commits fail.

        Call it before the study is read: what is read afterwards stays as it is.
        """
        key = {"study_id": self._study_id, "key": WRITER_KEY}
        where = sa.and_(STUDY_ATTRS.c.study_id == self._study_id, STUDY_ATTRS.c.key == WRITER_KEY)
        self._line = json.dumps(self._signature | {"group": self._group})
        with self._transaction() as connection:
            found = connection.execute(sa.update(STUDY_ATTRS).where(where).values(value_json=self._line))
            if not found.rowcount:
                connection.execute(sa.insert(STUDY_ATTRS), [key | {"value_json": self._line}])

    def resume(self, stored: Iterable[TrialRecord]) -> None:
        """Learn what the database holds: every trial of the study, in the order of their numbers.

        Raises:
            StorageError: The stored numbers have gaps, so that Optuna would number new trials differently.
        """
        with self._transaction() as connection:
            found = connection.execute(_IDS, {"study": self._study_id, "last": 0}).all()
        ids = {row.number: row.trial_id for row in found}
        if sorted(ids) != list(range(len(found))):
            raise StorageError(
                f"the trials of study {self._study_name!r} are not numbered from 0 without gaps (rows were deleted"
                " by hand?): copy the study with optuna.copy_study and use the copy"
            )
        self._next_number = len(ids)
        self._last_id = max(ids.values(), default=0)
        self._open = {r.number: _written(r, ids[r.number]) for r in stored if not r.state.is_finished()}

    def write(self, records: Sequence[TrialRecord], study_attrs: Mapping[str, Any]) -> None:
        """Write trials and study attributes in one transaction; durable when it returns.

        A call that failed on the way may be repeated with the same arguments: what had landed is noticed.

        Args:
            records: At most one of each trial; new ones must continue the stored numbers.
            study_attrs: System attributes a sampler set.

        Raises:
            StorageError: Somebody else writes to this study.
            sqlalchemy.exc.DBAPIError: The database failed; see `storage.is_transient`.
        """
        records = sorted(records, key=lambda r: r.number)
        new = [r for r in records if r.number >= self._next_number]
        assert [r.number for r in new] == list(range(self._next_number, self._next_number + len(new)))
        line = json.dumps(self._signature | {"group": self._group + 1})
        with self._transaction() as connection:
            landed = self._sign(connection, line)
            if new and not landed:
                connection.execute(sa.insert(TRIALS), [r.trial_row(self._study_id) for r in new])
            ids = self._new_ids(connection, new) if new else {}
            if not landed:
                self._write_states(connection, [r for r in records if r.number < self._next_number])
                self._write_rows(connection, records, ids)
                self._write_study_attrs(connection, study_attrs)
        self._line, self._group = line, self._group + 1
        self._remember(records, ids)

    def close(self) -> None:
        self._disconnect()
        self._engine.dispose()

    def _sign(self, connection: sa.Connection, line: str) -> bool:
        """Renew the line; True when an earlier attempt at this very transaction had been committed."""
        ours = sa.and_(STUDY_ATTRS.c.study_id == self._study_id, STUDY_ATTRS.c.key == WRITER_KEY)
        renewed = sa.update(STUDY_ATTRS).where(ours, STUDY_ATTRS.c.value_json == self._line).values(value_json=line)
        if connection.execute(renewed).rowcount:
            return False
        found = connection.execute(sa.select(STUDY_ATTRS.c.value_json).where(ours)).scalar()
        if found == line:
            return True
        holder = json.loads(found)["run_id"] if found else "none (the study was deleted or reset)"
        raise StorageError(
            f"another driver has taken study {self._study_name!r} over (run {holder!r}): this one stops;"
            " let one run at a time work on a study"
        )

    def _new_ids(self, connection: sa.Connection, new: Sequence[TrialRecord]) -> dict[int, int]:
        rows = connection.execute(_IDS, {"study": self._study_id, "last": self._last_id}).all()
        ids = {row.number: row.trial_id for row in rows}
        if len(rows) != len(new) or any(r.number not in ids for r in new):
            raise StorageError(
                f"another process added a trial to study {self._study_name!r} while this run was writing trial"
                f" {new[0].number}: let one run at a time work on a study, then start this run again; it goes on"
            )
        return ids

    def _write_states(self, connection: sa.Connection, records: Sequence[TrialRecord]) -> None:
        changed = [r for r in records if r.state != self._open[r.number].state]
        if not changed:
            return
        rows = [r.trial_row(self._study_id) for r in changed]
        found = connection.execute(
            _CHANGE_STATE,
            [
                {
                    "id": self._open[row["number"]].trial_id,
                    "new_state": row["state"],
                    "start": row["datetime_start"],
                    "complete": row["datetime_complete"],
                }
                for row in rows
            ],
        )
        if found.rowcount != len(changed):
            numbers = ", ".join(str(r.number) for r in changed)
            raise StorageError(
                f"another process finished or deleted one of the trials {numbers} of study {self._study_name!r}"
                " while this run was working on it: let one run at a time work on a study, then start it again"
            )

    def _write_rows(self, connection: sa.Connection, records: Sequence[TrialRecord], ids: Mapping[int, int]) -> None:
        changes = _Changes()
        for record in records:
            written = self._open.get(record.number) or _Written(ids[record.number], record.state)
            changes.add(record, written)
        for table, rows in changes.inserts:
            if rows:
                connection.execute(sa.insert(table), rows)
        for table, rows in changes.updates:
            if rows:
                connection.execute(_change_attr(table), rows)

    def _write_study_attrs(self, connection: sa.Connection, attrs: Mapping[str, Any]) -> None:
        for key, text in attribute_texts(attrs).items():
            where = sa.and_(STUDY_ATTRS.c.study_id == self._study_id, STUDY_ATTRS.c.key == key)
            found = connection.execute(sa.update(STUDY_ATTRS).where(where).values(value_json=text))
            if not found.rowcount:
                row = {"study_id": self._study_id, "key": key, "value_json": text}
                connection.execute(sa.insert(STUDY_ATTRS), [row])

    def _remember(self, records: Sequence[TrialRecord], ids: Mapping[int, int]) -> None:
        for record in records:
            known = self._open.pop(record.number, None)
            if not record.state.is_finished():
                trial_id = known.trial_id if known else ids[record.number]
                self._open[record.number] = _written(record, trial_id)
        self._next_number += len(ids)
        self._last_id = max(ids.values(), default=self._last_id)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """One transaction on the kept connection, which is replaced after any failure."""
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


class _Changes:
    """Rows to insert and to update, by table, collected over the trials of one transaction."""

    def __init__(self) -> None:
        self._params: list[Row] = []
        self._values: list[Row] = []
        self._steps: list[Row] = []
        self._user: list[Row] = []
        self._system: list[Row] = []
        self._user_changes: list[Row] = []
        self._system_changes: list[Row] = []

    @property
    def inserts(self) -> list[tuple[sa.TableClause, list[Row]]]:
        return [
            (PARAMS, self._params),
            (USER_ATTRS, self._user),
            (SYSTEM_ATTRS, self._system),
            (STEPS, self._steps),
            (VALUES, self._values),
        ]

    @property
    def updates(self) -> list[tuple[sa.TableClause, list[Row]]]:
        return [(USER_ATTRS, self._user_changes), (SYSTEM_ATTRS, self._system_changes)]

    def add(self, record: TrialRecord, written: _Written) -> None:
        """What `record` has that the database has not."""
        owner = {"trial_id": written.trial_id}
        for name, value in record.params.items():
            if name not in written.params:
                text = record.distributions[name]
                self._params.append(owner | {"param_name": name, "param_value": value, "distribution_json": text})
        for step, value in record.intermediate_values.items():
            if step not in written.steps:
                self._steps.append(owner | {"step": step} | number_columns(value, "intermediate_value"))
        for objective, value in enumerate(record.values):
            self._values.append(owner | {"objective": objective} | number_columns(value, "value"))
        _add_attrs(record.user_attrs, written.user_attrs, owner, self._user, self._user_changes)
        _add_attrs(record.system_attrs, written.system_attrs, owner, self._system, self._system_changes)


def _add_attrs(
    attrs: Mapping[str, Any], written: Mapping[str, str], owner: Row, inserts: list[Row], updates: list[Row]
) -> None:
    for key, text in attribute_texts(attrs).items():
        if key not in written:
            inserts.append(owner | {"key": key, "value_json": text})
        elif written[key] != text:
            updates.append({"id": owner["trial_id"], "name": key, "text": text})


def _change_attr(table: sa.TableClause) -> sa.Update:
    where = sa.and_(table.c.trial_id == sa.bindparam("id"), table.c.key == sa.bindparam("name"))
    return sa.update(table).where(where).values(value_json=sa.bindparam("text"))


def _written(record: TrialRecord, trial_id: int) -> _Written:
    return _Written(
        trial_id=trial_id,
        state=record.state,
        params=set(record.params),
        user_attrs=attribute_texts(record.user_attrs),
        system_attrs=attribute_texts(record.system_attrs),
        steps=set(record.intermediate_values),
    )


def check_schema(storage: RDBStorage) -> None:
    """Refuse a schema this module does not know.

    Raises:
        StorageError: Another version, with what to do.
    """
    found = storage.get_current_version()
    if found != SCHEMA:
        raise StorageError(
            f"the database holds Optuna schema {found}, this package writes {SCHEMA} (Optuna 3.2 to 5.0):"
            " run `optuna storage upgrade`, or set coordination to database, which leaves the writing to Optuna"
        )


def _engine(url: str | sa.URL) -> sa.Engine:
    options = engine_options(url)
    if parse_url(url).get_backend_name() == "mysql":
        # Each statement sees what others have committed: needed to notice them. And no wait without an end.
        options["isolation_level"] = "READ COMMITTED"
        options["connect_args"] = options["connect_args"] | {"read_timeout": 60, "write_timeout": 60}
    return sa.create_engine(parse_url(url), **options)
