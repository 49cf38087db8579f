"""Writes trials into Optuna's tables, many in one transaction.

Optuna's own RDBStorage needs about 31 statements and 7 commits for a trial of two parameters, and its public interface
cannot write trials in groups. So this module writes the rows itself. It knows one schema version, and refuses any
other. Optuna reads its rows as if RDBStorage had written them (a test compares the two).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.storages import RDBStorage

from optuna_spark.database.connection import Database, Statement, Transaction
from optuna_spark.errors import StorageError, StudyGoneError
from optuna_spark.storage.optuna_tables import NEW_STATE, NEW_TRIAL, TRIAL_IDS, Changes, Written, new_trial_rows
from optuna_spark.storage.trial_record import TrialRecord

SCHEMA = "v3.2.0.a"  # alembic revision of Optuna 3.2 to 5.0, schema version 12
WRITER_KEY = "optuna_spark:writer"

NONE: Mapping[str, Any] = {}  # no attributes

_STUDY_ATTR = "SELECT value_json FROM study_system_attributes WHERE study_id = %s AND `key` = %s"
_NEW_STUDY_ATTR = "INSERT INTO study_system_attributes (study_id, `key`, value_json) VALUES (%s, %s, %s)"
_SET_STUDY_ATTR = "UPDATE study_system_attributes SET value_json = %s WHERE study_id = %s AND `key` = %s"
_NEW_STUDY_USER_ATTR = _NEW_STUDY_ATTR.replace("system", "user")
_SET_STUDY_USER_ATTR = _SET_STUDY_ATTR.replace("system", "user")
_SIGN = _SET_STUDY_ATTR + " AND value_json = %s"


class _NotSignedError(Exception):
    """The study's signature is not the one that this writer wrote last."""


class StudyWriter:
    """The only writer of a study while a run lasts. Used by one thread at a time.

    It keeps a signature in the study's system attributes, and renews it in every transaction. This serves two purposes:

    - After a connection broke during a commit, the signature tells whether the commit happened.
    - A second writer (a new driver, while a forgotten one is still alive) replaces the signature. The transactions of
      the first one fail from then on.

    Args:
        storage: The storage that holds the study; only read from.
        database: The same database, to write to.
        study_name: Name of an existing study.
        run_id: Part of the signature, for people.

    Raises:
        StorageError: The tables are of another schema version.
    """

    def __init__(self, storage: RDBStorage, database: Database, study_name: str, run_id: str) -> None:
        check_schema(storage)
        self._study_id = storage.get_study_id_from_name(study_name)
        self._study_name = study_name
        self._database = database
        self._signature = {"run_id": run_id, "token": secrets.token_hex(8)}
        self._group = 0
        # The signature as the database holds it, which counts this writer's transactions.
        self._line = json.dumps(self._signature | {"group": 0})
        self._open: dict[int, Written] = {}
        self._next_number = 0
        self._last_id = 0

    def take_over(self) -> None:
        """Become the study's writer: from now on the transactions of an earlier writer fail.

        Call it before the study is read, so that nobody changes the study after that.
        """
        with self._database.transaction() as transaction:
            self._set_study_attr(transaction, WRITER_KEY, self._line)

    def resume(self, unfinished: Iterable[TrialRecord]) -> None:
        """Learn which rows the database holds. Call it before `write`.

        Args:
            unfinished: The study's trials that are running or waiting, as they were read.

        Raises:
            StorageError: The numbers of the stored trials have gaps. Optuna would then give new trials other numbers.
        """
        with self._database.transaction() as transaction:
            (found,) = transaction.run((TRIAL_IDS, [(self._study_id, 0)]))
        ids = dict(found.rows)
        if sorted(ids) != list(range(len(ids))):
            raise StorageError(
                f"the trials of study {self._study_name!r} are not numbered from 0 without gaps (rows were deleted"
                " by hand?): copy the study with optuna.copy_study and use the copy"
            )
        self._next_number = len(ids)
        self._last_id = max(ids.values(), default=0)
        self._open = {r.number: Written.of(r, ids[r.number]) for r in unfinished}

    def write(
        self, records: Sequence[TrialRecord], study_attrs: Mapping[str, Any], user_attrs: Mapping[str, Any] = NONE
    ) -> None:
        """Write trials and study attributes in one transaction. They are durable when it returns.

        A call that failed may be repeated with the same arguments, even if its commit happened after all.

        Args:
            records: At most one of each trial. The numbers of new trials follow the stored ones without gaps.
            study_attrs: System attributes of the study that a sampler set.
            user_attrs: User attributes of the study that objectives set.

        Raises:
            StudyGoneError: The study was deleted.
            StorageError: Another process writes to this study.
            Exception: The database driver's own, if the database failed.
        """
        new = sorted((r for r in records if r.number >= self._next_number), key=lambda r: r.number)
        old = [r for r in records if r.number < self._next_number]
        assert [r.number for r in new] == list(range(self._next_number, self._next_number + len(new)))
        line = self._next_line()
        try:
            ids = self._write(new, old, study_attrs, user_attrs, line)
        # integrity_error: the study was deleted, so the new rows refer to nothing.
        except (_NotSignedError, self._database.integrity_error) as error:
            ids = self._landed(new, line, error)
        self._remember(records, ids, line)

    def study_attr(self, key: str) -> Any:
        """A system attribute of the study, as it is stored now; None if there is none.

        Raises:
            Exception: The database driver's own, if the database failed.
        """
        with self._database.transaction() as transaction:
            (found,) = transaction.run((_STUDY_ATTR, [(self._study_id, key)]))
        return json.loads(found.rows[0][0]) if found.rows else None

    def close(self) -> None:
        self._database.close()

    def _next_line(self) -> str:
        return json.dumps(self._signature | {"group": self._group + 1})

    def _write(
        self,
        new: Sequence[TrialRecord],
        old: Sequence[TrialRecord],
        study_attrs: Mapping[str, Any],
        user_attrs: Mapping[str, Any],
        line: str,
    ) -> dict[int, int]:
        """Write in one transaction, which renews the signature first; returns the ids of the new trials by number."""
        with self._database.transaction() as transaction:
            signed, _, found = transaction.run(
                (_SIGN, [(line, self._study_id, WRITER_KEY, self._line)]),
                (NEW_TRIAL, new_trial_rows(new, self._study_id)),
                self._ids_of(new),
            )
            if not signed.matched:
                raise _NotSignedError
            ids = self._new_ids(found.rows, new)
            self._change_states(transaction, old)
            for key, value in study_attrs.items():
                self._set_study_attr(transaction, key, json.dumps(value))
            for key, value in user_attrs.items():
                self._set_study_attr(transaction, key, json.dumps(value), _SET_STUDY_USER_ATTR, _NEW_STUDY_USER_ATTR)
            transaction.run_and_commit(*self._changes([*new, *old], ids))
        return ids

    def _landed(self, new: Sequence[TrialRecord], line: str, error: Exception) -> dict[int, int]:
        """The ids of the new trials, if an earlier attempt at this very transaction was committed after all.

        Raises:
            StudyGoneError: The study was deleted.
            StorageError: Another process writes to this study.
            Exception: `error`, if none of these explains it.
        """
        with self._database.transaction() as transaction:
            found, ids = transaction.run(
                (_STUDY_ATTR, [(self._study_id, WRITER_KEY)]),
                self._ids_of(new),
            )
        if found.rows and found.rows[0][0] == line:
            return self._new_ids(ids.rows, new)
        if found.rows and found.rows[0][0] == self._line:  # nobody has written since our last transaction
            raise error
        if not found.rows:
            raise StudyGoneError.of(self._study_name) from error
        other = json.loads(found.rows[0][0])["run_id"]
        raise StorageError(
            f"study {self._study_name!r} was taken from this run: run {other!r} has come in between;"
            " let one run at a time work on a study"
        )

    def _ids_of(self, new: Sequence[TrialRecord]) -> Statement:
        return TRIAL_IDS, [(self._study_id, self._last_id)] if new else []

    def _new_ids(self, rows: Sequence[tuple[Any, ...]], new: Sequence[TrialRecord]) -> dict[int, int]:
        ids = dict(rows)
        if len(rows) != len(new) or any(r.number not in ids for r in new):
            raise StorageError(
                f"another process added a trial to study {self._study_name!r} while this run was writing trial"
                f" {new[0].number}: let one run at a time work on a study, then start this run again; it goes on"
            )
        return ids

    def _change_states(self, transaction: Transaction, records: Sequence[TrialRecord]) -> None:
        changed = [r for r in records if r.state != self._open[r.number].state]
        rows = [(r.state.name, r.start, r.complete, self._open[r.number].trial_id) for r in changed]
        (done,) = transaction.run((NEW_STATE, rows))
        if done.matched != len(rows):
            numbers = ", ".join(str(r.number) for r in changed)
            raise StorageError(
                f"another process finished or deleted one of the trials {numbers} of study {self._study_name!r}"
                " while this run was working on it: let one run at a time work on a study, then start it again"
            )

    def _changes(self, records: Sequence[TrialRecord], ids: Mapping[int, int]) -> list[Statement]:
        changes = Changes()
        for record in records:
            written = self._open.get(record.number)
            changes.add(record, written or Written(ids[record.number], record.state))
        return changes.statements()

    def _set_study_attr(
        self, transaction: Transaction, key: str, text: str, change: str = _SET_STUDY_ATTR, new: str = _NEW_STUDY_ATTR
    ) -> None:
        (changed,) = transaction.run((change, [(text, self._study_id, key)]))
        if not changed.matched:
            transaction.run((new, [(self._study_id, key, text)]))

    def _remember(self, records: Sequence[TrialRecord], ids: Mapping[int, int], line: str) -> None:
        self._line, self._group = line, self._group + 1
        for record in records:
            known = self._open.get(record.number)
            if record.state.is_finished():  # it never changes again, so nothing is kept of it
                self._open.pop(record.number, None)
            elif known is None:
                self._open[record.number] = Written.of(record, ids[record.number])
            else:
                known.note(record)
        self._next_number += len(ids)
        self._last_id = max(ids.values(), default=self._last_id)


def check_schema(storage: RDBStorage) -> None:
    """Refuse a schema that this module does not know.

    Raises:
        StorageError: The database has another schema version. The error says what to do.
    """
    found = storage.get_current_version()
    if found != SCHEMA:
        raise StorageError(
            f"the database holds Optuna schema {found}, this package writes {SCHEMA} (Optuna 3.2 to 5.0):"
            " run `optuna storage upgrade`, or use a version of this package that was made for that schema"
        )
