"""The thread that writes to the database. What arrives while it writes goes into the next transaction, as a group."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from optuna.trial import TrialState

from optuna_spark.database.mysql_errors import comes_back, explain_data, is_about_data
from optuna_spark.errors import StorageError
from optuna_spark.shown import duration
from optuna_spark.storage.study_writer import NONE
from optuna_spark.storage.trial_record import Refusal, TrialRecord

log = logging.getLogger(__name__)

DELAY_S = 0.5  # how long the record of a running trial may wait
LOOK_S = 2.0  # between two looks for a request to the run
SAY_S = 60.0  # between two lines of the log about looks that fail
PATIENCE_S = 300.0  # how long a group is tried again: a failover of MySQL can take minutes


class Writer(Protocol):
    """Writes a group in one transaction. WriterProcess is the real one."""

    def write(
        self, records: list[TrialRecord], study_attrs: Mapping[str, Any], user_attrs: Mapping[str, Any] = NONE
    ) -> None: ...


class Committer:
    """Takes the records of trials and writes them in groups. Thread-safe.

    A finished trial is written at once. A trial that began or went on is written within `DELAY_S`. Most short trials
    have finished by then, so they cost one INSERT rather than an INSERT and an UPDATE. New trials are written in the
    order of their numbers, because Optuna numbers trials in the order of their rows.

    If the database refuses the data of a group, its trials are written one by one. So the others of the group are
    stored, and the trial with the bad data gets a row without them (`take_refusals` tells which).

    Args:
        writer: Writes the groups. Used by the committer's thread only.
        explain_error: Turns a database error that trying again cannot help into a StorageError for a person.
        on_failure: Called from the committer's thread when it gives up. Futures that wait then fail.
        look: Called every LOOK_S from the committer's thread, so that it may use the writer. What it raises is
            logged, at most every SAY_S.

    Attributes:
        error: Why the committer has given up; None while it has not.
    """

    def __init__(
        self,
        writer: Writer,
        explain_error: Callable[[Exception], StorageError],
        on_failure: Callable[[StorageError], None],
        look: Callable[[], None] | None = None,
    ) -> None:
        self._writer, self._explain, self._on_failure, self._look = writer, explain_error, on_failure, look
        self._next_look = time.monotonic() + LOOK_S
        self._blind_since: float | None = None  # since when each look has failed
        self._next_say = -math.inf
        self._wake = threading.Condition()
        self._records: dict[int, TrialRecord] = {}
        self._since: dict[int, float] = {}  # when each record came (monotonic s); -inf for one that is due at once
        self._attrs: dict[str, Any] = {}
        self._user_attrs: dict[str, Any] = {}
        self._waiting: list[Future[None]] = []
        self._highest = -1  # number of the last trial that was written
        self._refusals: list[Refusal] = []
        self._refused_in_a_row = 0
        self._closing = False
        self.error: StorageError | None = None
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def put(self, record: TrialRecord) -> None:
        """Write this record soon, unless a later one of the same trial replaces it."""
        with self._wake:
            self._keep(record)
            self._since.setdefault(record.number, time.monotonic())
            self._wake.notify()

    def put_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Write these system attributes of the study with the next group."""
        with self._wake:
            self._attrs.update(attrs)

    def put_user_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Write these user attributes of the study soon. One that the database refuses is left out, and logged."""
        with self._wake:
            self._user_attrs.update(attrs)
            self._wake.notify()

    def commit(self, record: TrialRecord) -> Future[None]:
        """Write this record at once. The future is done when the record is durable, or fails with a StorageError."""
        done: Future[None] = Future()
        with self._wake:
            if self.error is not None:
                done.set_exception(self.error)
                return done
            self._keep(record)
            self._since[record.number] = -math.inf
            self._waiting.append(done)
            self._wake.notify()
        return done

    def take_refusals(self) -> list[Refusal]:
        """The trials whose data were refused since the last call. A trial is among them before its future is done."""
        if not self._refusals:  # asked for with each message of a worker
            return []
        with self._wake:
            refusals, self._refusals = self._refusals, []
        return refusals

    def close(self) -> None:
        """Write what is left, then end the thread. Safe to call twice."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _keep(self, record: TrialRecord) -> None:
        earlier = self._records.get(record.number)
        self._records[record.number] = record if earlier is None else record.following(earlier)

    def _run(self) -> None:
        while True:
            self._look_now_and_then()
            with self._wake:
                if not self._due():
                    if self._closing:
                        return
                    self._wake.wait(self._pause_s())
                    continue
                group, attrs, user_attrs, waiting = self._take()
            try:
                self._write(group, attrs, user_attrs)
            except Exception as error:  # noqa: BLE001  # after any error, no future may wait for ever
                self._give_up(self._as_storage_error(error), waiting)
                return
            for done in waiting:
                done.set_result(None)

    def _pause_s(self) -> float | None:
        if self._records:
            return DELAY_S / 2
        return None if self._look is None else max(0.0, self._next_look - time.monotonic())

    def _look_now_and_then(self) -> None:
        if self._look is None or self._closing or time.monotonic() < self._next_look:
            return
        try:
            self._look()
            self._blind_since = None
        except Exception as error:  # noqa: BLE001  # a database that fails for good, the next write will tell of
            self._say_now_and_then(error)
        self._next_look = time.monotonic() + LOOK_S

    def _say_now_and_then(self, error: Exception) -> None:
        now = time.monotonic()
        since = self._blind_since = now if self._blind_since is None else self._blind_since
        if now < self._next_say:
            return
        self._next_say = now + SAY_S
        long = f", for {duration(now - since)}" if now > since else ""
        log.info("The database could not be asked for requests to this run%s: %s", long, error)

    def _due(self) -> bool:
        if self._closing or not self._records:
            return bool(self._records or self._attrs or self._user_attrs)
        return min(self._since.values()) < time.monotonic() - DELAY_S

    def _take(self) -> tuple[list[TrialRecord], dict[str, Any], dict[str, Any], list[Future[None]]]:
        """Take the records that are due, and all new trials with lower numbers."""
        old = time.monotonic() - DELAY_S
        due = {n for n, since in self._since.items() if self._closing or since < old}
        last = max(due, default=-1)
        due |= {n for n in self._records if n < last and n > self._highest}
        self._highest = max(self._highest, last)
        group = [self._records.pop(n) for n in sorted(due)]
        for number in due:
            del self._since[number]
        attrs, self._attrs = self._attrs, {}
        user_attrs, self._user_attrs = self._user_attrs, {}
        waiting, self._waiting = self._waiting, []
        return group, attrs, user_attrs, waiting

    def _write(self, group: list[TrialRecord], attrs: Mapping[str, Any], user_attrs: Mapping[str, Any]) -> None:
        """Write a group, as a whole or else trial by trial."""
        try:
            self._write_together(group, attrs, user_attrs)
            self._note_stored(group)
        except Exception as error:
            if not is_about_data(error):
                raise
            log.warning("The database refuses data of a group of %s trials: they are written one by one", len(group))
            if attrs:  # a sampler's: no trial is to blame if they are refused
                self._write_together([], attrs)
            for key, value in user_attrs.items():
                self._write_user_attr(key, value)
            for record in group:
                self._write_alone(record)

    def _write_user_attr(self, key: str, value: Any) -> None:
        try:
            self._write_together([], {}, {key: value})
        except Exception as error:
            if not is_about_data(error):
                raise
            log.warning("User attribute %r of the study is not stored: %s", key, explain_data(error))

    def _write_alone(self, record: TrialRecord) -> None:
        """Write one trial: with its data, or without if the database refuses them."""
        try:
            self._write_together([record], {})
            self._note_stored([record])
        except Exception as error:
            if not is_about_data(error):
                raise
            reason = explain_data(error)
            log.warning("Trial %s fails: %r", record.number, reason)
            self._write_together([record.without_data(reason)], {})
            ended = record.state.is_finished()
            with self._wake:
                self._refused_in_a_row += ended
                self._refusals.append(Refusal(record.number, ended, reason, self._refused_in_a_row))

    def _note_stored(self, group: list[TrialRecord]) -> None:
        if any(record.state in (TrialState.COMPLETE, TrialState.PRUNED) for record in group):
            self._refused_in_a_row = 0

    def _write_together(
        self, group: list[TrialRecord], attrs: Mapping[str, Any], user_attrs: Mapping[str, Any] = NONE
    ) -> None:
        """Write in one transaction. Tries again while the server restarts or a lock is held."""
        deadline = time.monotonic() + PATIENCE_S
        pause_s = 0.05
        while True:
            try:
                self._writer.write(group, attrs, user_attrs)
                return
            except Exception as error:
                if not comes_back(error) or time.monotonic() > deadline:
                    raise
                log.warning("The database did not take a group of %s trials, trying again: %s", len(group), error)
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
            pause_s = min(5.0, 2 * pause_s)

    def _as_storage_error(self, error: Exception) -> StorageError:
        if isinstance(error, StorageError):
            return error
        return self._explain(error)

    def _give_up(self, error: StorageError, waiting: list[Future[None]]) -> None:
        log.error("Writing to the database has failed for good: %s", error)
        with self._wake:
            self.error = error
            waiting = waiting + self._waiting
            self._waiting = []
        # Before the futures fail: that closes workers' connections. They connect again at once, and must find the run
        # over by then.
        self._on_failure(error)
        for done in waiting:
            done.set_exception(error)
