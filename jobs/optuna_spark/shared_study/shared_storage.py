"""Optuna's study in the database, for one process of a run with `coordination: database`."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.database.connection import Transaction
from optuna_spark.database.mysql_errors import explain_data, is_about_data
from optuna_spark.database.patient import PatientDatabase
from optuna_spark.errors import StorageError, StudyGoneError
from optuna_spark.sampling.exhaustive.exhaustive import ExhaustiveSampler
from optuna_spark.sampling.history import HistoryStorage, with_own_values
from optuna_spark.sampling.sampler_facts import portable, sees_all
from optuna_spark.shared_study.claims import LAST_ID, Claim, Claims, Turn, lock_study, new_token
from optuna_spark.shared_study.close_trial import changes, new_state, whole_record
from optuna_spark.shared_study.study_attrs import SYSTEM, USER, AttrTable, read_attrs, write_attr
from optuna_spark.shared_study.tally import Tally
from optuna_spark.shared_study.trial_reader import numbers_have_gaps, read_trial, read_trials, study_of
from optuna_spark.spec.parameters import check_suggested
from optuna_spark.storage import trial_marks
from optuna_spark.storage.limits import as_step, attr_text, check_distribution, check_name
from optuna_spark.storage.optuna_tables import NEW_TRIAL, Written, new_trial_rows
from optuna_spark.storage.trial_record import TrialRecord, stored_moment

# The rows of a running trial are written, and those of others read, at most this often where nothing needs it sooner.
UPDATE_S = 0.5

Count = Callable[[Tally, FrozenTrial], Tally]
T = TypeVar("T")

_PICKLED = (
    "this trial was pickled, and a copy has no connection to the database: read what it knows, and suggest, report and"
    " change the study where the trial runs"
)


class _ClaimGoneError(Exception):
    """Somebody else has closed the trial, or the run is over: nothing may be written."""


@dataclass
class _Own:
    """The trial that this process runs.

    Attributes:
        claim: Its claim.
        written: What the database holds of it; None where that is not known, after a failure.
        changed: Whether it has changed since it was written.
        put_at: When it was written last, in seconds of the monotonic clock; 0 for never.
    """

    claim: Claim
    written: Written | None
    changed: bool = False
    put_at: float = 0.0


class SharedStorage(HistoryStorage):
    """A copy of the study in memory, which reads what has changed since the last look.

    It writes only the trial that this process runs: what it sets is kept in memory and written in groups, all of it at
    the latest when the trial ends. As in HistoryStorage a trial's id is its number. Samplers see the part of the study
    that HistoryStorage chooses, everybody else sees all of it.

    A pickled storage is a copy of what this one knew, without the database and its password.

    Args:
        database: Of the study. The caller closes it.
        name: Of an existing study.
        sampler: Decides which trials samplers are shown.
        history: How many finished trials samplers are shown at most.

    Attributes:
        stored_id: The study's id in the database.
        memory_id: Its id here.
        settling: Who holds this lock changes a parameter that must not be written meanwhile.

    Raises:
        StudyGoneError: There is no such study.
        StorageError: The numbers of its trials have gaps.
    """

    def __init__(self, database: PatientDatabase, name: str, sampler: BaseSampler, history: int) -> None:
        super().__init__(history, whole=sees_all(sampler))
        self._database: PatientDatabase | None = database
        self._looking, self.settling = threading.Lock(), threading.RLock()
        self._own: _Own | None = None
        self._view = "all"
        found = database.run(lambda transaction: transaction.run(study_of(name))[0].rows)
        if not found:
            raise StudyGoneError.of(name)
        self.stored_id = int(found[0][0])
        stored = database.run(lambda transaction: read_trials(transaction, self.stored_id))
        if numbers_have_gaps(stored.values()):
            raise StorageError(
                f"the trials of study {name!r} are not numbered from 0 without gaps (rows were deleted by hand?):"
                " copy the study with optuna.copy_study and use the copy"
            )
        self.memory_id = self.load(name, [StudyDirection[d] for _, d in found], list(stored.values()))
        self._ids = {t.number: trial_id for trial_id, t in stored.items() if not t.state.is_finished()}
        self._last_id, self._looked = max(stored, default=0), time.monotonic()

    def look(self, transaction: Transaction | None = None) -> None:
        """Read what has changed since the last look, in this transaction or in one of its own."""
        with self._looking:  # an objective may have threads
            self._look(transaction)

    def look_now_and_then(self) -> None:
        if self._database is not None and time.monotonic() - self._looked > UPDATE_S:
            self.look()

    def begin(
        self, claims: Claims, start: datetime, marks: Mapping[str, Any], count: Count,
        points: ExhaustiveSampler | None = None,
    ) -> Turn:  # fmt: skip
        """Begin a trial for this process, if the run's budget allows one.

        Args:
            claims: Of the run.
            start: The moment of the start, in naive local time.
            marks: The notes that the trial begins with (storage/trial_marks.py).
            count: Changes the run's counts by a trial that has ended.
            points: Knows which points of the search space are left, if they can run out.
        """
        token, moment = new_token(), stored_moment(start) or ""

        def begin_in(transaction: Transaction) -> Turn:
            if points is not None:
                claims.lock(transaction)  # nobody takes a point meanwhile
                self._look(transaction)
            waiting = [Claim(n, self._ids[n], "", 0) for n in sorted(self._ids) if self._is_waiting(n)]
            is_free = points is None or points.has_free(self, self.memory_id)
            return claims.begin(transaction, token, moment, marks, waiting, is_free=is_free)

        with self._looking:
            turn = self._run(begin_in)
        if turn.claim is None:
            return turn
        self._claims, self._count = claims, count
        self.look()  # which finds the new trial, too
        if turn.claim.number >= self.count:
            return Turn(over=True)  # the study was deleted at this moment
        trial = self.get_trial(turn.claim.number)
        self._own = _Own(turn.claim, Written.of(whole_record(trial), turn.claim.trial_id))
        for key, value in {**trial_marks.kept(trial), **marks}.items():
            if trial.system_attrs.get(key) != value:  # a trial that had waited
                self.set_trial_system_attr(trial.number, key, value)
        return turn

    def alone(self, sample: Callable[[], T]) -> T:
        """Sample for the own trial while no other process does, with all that they have sampled, and write it.

        Args:
            sample: Sets the own trial's parameters and attributes, and needs nothing of the database. It may be called
                again, after a transaction that was not confirmed.
        """
        assert self._own is not None
        own, before, result = self._own, self.get_trial(self._own.claim.number), list[T]()

        def sample_in(transaction: Transaction) -> None:
            self._claims.lock(transaction)
            self._look(transaction)
            if result:  # what was sampled may be stored, or may be somebody else's by now
                stored = read_trial(transaction, self.stored_id, own.claim.trial_id)
                self._set_trial(before.number, before if stored is None else _with_samples(before, stored))
            result[:] = [sample()]
            own.changed, own.put_at = False, time.monotonic()
            self._put(transaction, own, whole_record(self.get_trial(before.number)))

        try:
            with self._looking, self.showing("sampler"):
                self._run(sample_in)
        except _ClaimGoneError:
            pass  # `set_trial_state_values` finds the same
        except Exception as error:
            if not result or not is_about_data(error):  # for which the trial fails when it ends
                raise
            own.changed = True
        return result[0]

    def put(self, *, beat: bool = False) -> None:
        """Write what the own trial has set, if it has; with `beat` also say that its worker lives.

        May be called by another thread than the one that runs the trial.
        """
        own = self._own
        if own is None or not (own.changed or beat):
            return
        own.changed, own.put_at = False, time.monotonic()
        with self.settling:
            reports_before = 0 if own.written is None else len(own.written.steps)
            record = whole_record(self.get_trial(own.claim.number), reports_before)
        try:
            self._run(lambda transaction: self._put(transaction, own, record))
        except _ClaimGoneError:
            return  # `set_trial_state_values` finds the same
        except Exception as error:
            if not is_about_data(error):  # for which the trial fails when it ends
                own.changed = True
                raise

    def put_now_and_then(self) -> None:
        """Write what the own trial has set, unless that was done a moment ago."""
        if self._own is not None and time.monotonic() - self._own.put_at > UPDATE_S:
            self.put()

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """End the own trial in the database. If somebody else has closed it, it stays as it is stored."""
        own = self._owned(trial_id)
        ended = copy.copy(self.get_trial(trial_id))
        ended.state, ended.datetime_complete = state, datetime.now()
        ended.system_attrs = trial_marks.ended(ended.system_attrs, ended.datetime_complete)
        ended.values = None if values is None else list(values)
        as_told = self._end(own, ended)
        self._own = None
        if as_told:
            self._replace(ended)
            self._ids.pop(trial_id, None)
        else:
            self.look()
        return True

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Add a trial of the objective's own, such as one from `study.enqueue_trial`."""
        if template_trial is None:
            raise RuntimeError("a trial cannot begin another one: the run itself hands out its trials")
        self._run(lambda transaction: self._insert(transaction, template_trial))
        self.look()
        return self.count - 1

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        own = self._owned(trial_id)
        check_name(param_name)
        check_distribution(distribution_to_json(distribution))
        check_suggested({**self.get_trial(trial_id).params, param_name: None})
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        own.changed = True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        own = self._owned(trial_id)
        with self.settling:
            super().set_trial_intermediate_value(trial_id, as_step(step), intermediate_value)
        own.changed = True

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        own = self._owned(trial_id)
        check_name(key)
        with self.settling:
            super().set_trial_user_attr(trial_id, key, json.loads(attr_text(key, value)))
        own.changed = True

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        own = self._owned(trial_id)
        check_name(key)
        with self.settling:
            super().set_trial_system_attr(trial_id, key, json.loads(attr_text(key, value)))
        own.changed = True

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self._view != "sampler":
            self.look_now_and_then()
        trials = super().get_all_trials(study_id, deepcopy=False, states=states)
        if self._view == "all" and self._own is not None:
            trials = [self._snapshot(trial) for trial in trials]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        self.look_now_and_then()
        return super().get_best_trial(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._run(lambda transaction: read_attrs(transaction, USER, self.stored_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._write_study_attr(USER, key, value)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        here = super().get_study_system_attrs(study_id)
        stored = self._run(lambda transaction: read_attrs(transaction, SYSTEM, self.stored_id))
        return {key: value for key, value in stored.items() if portable(key)} | here

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        if portable(key):
            self._write_study_attr(SYSTEM, key, value)
        else:
            super().set_study_system_attr(study_id, key, value)

    def delete_study(self, study_id: int) -> None:
        raise RuntimeError("a trial cannot delete its own study")

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedStorage:
        return self  # the same study; only a pickled one is another

    def __getstate__(self) -> dict[Any, Any]:
        here_only = {"_looking", "settling", "_claims", "_count"}
        known = {name: value for name, value in super().__getstate__().items() if name not in here_only}
        return {**known, "_database": None, "_own": None}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._looking, self.settling = threading.Lock(), threading.RLock()

    def _run(self, work: Callable[[Transaction], T]) -> T:
        if self._database is None:
            raise RuntimeError(_PICKLED)
        return self._database.run(work)

    def _write_study_attr(self, table: AttrTable, key: str, value: Any) -> None:
        check_name(key)
        text = attr_text(key, value)
        self._run(lambda transaction: write_attr(transaction, table, self.stored_id, key, text))

    def _look(self, transaction: Transaction | None) -> None:
        which = (self.stored_id, self._last_id, self._ids.values())
        if transaction is None:
            found = self._run(lambda own: read_trials(own, *which, commit=True))
        else:
            found = read_trials(transaction, *which)
        self._looked = time.monotonic()
        for trial_id, trial in found.items():
            if self._own is None or trial.number != self._own.claim.number:  # what is here of it is newer
                self._adopt(trial_id, trial)
        self._last_id = max(self._last_id, *found) if found else self._last_id

    def _snapshot(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial as it is now, though another thread of its objective may change it."""
        if trial.state.is_finished():
            return trial
        with self.settling:
            return with_own_values(trial)

    def _is_waiting(self, number: int) -> bool:
        return self.get_trial(number).state == TrialState.WAITING

    def _owned(self, number: int) -> _Own:
        """The own trial, if this is its number.

        Raises:
            UpdateFinishedTrialError: It has ended.
            RuntimeError: It is another process's, or this is a copy.
        """
        if self._own is None or self._own.claim.number != number:
            if self._database is None:
                raise RuntimeError(_PICKLED)
            self.check_trial_is_updatable(number, self.get_trial(number).state)
            raise RuntimeError(f"trial {number} is not the one that runs here: a trial may change only itself")
        return self._own

    def _put(self, transaction: Transaction, own: _Own, record: TrialRecord) -> None:
        written = self._take_written(transaction, own)
        beat, *_ = transaction.run(self._claims.beat(own.claim), *changes(record, written))
        if not beat.matched:
            raise _ClaimGoneError
        transaction.commit()
        written.note(record)
        own.written = written

    def _take_written(self, transaction: Transaction, own: _Own) -> Written:
        """What the database holds of the own trial. Nobody knows it from here on, until the caller has committed."""
        written, own.written = own.written, None
        if written is not None:
            return written
        trial_id = own.claim.trial_id
        stored = read_trial(transaction, self.stored_id, trial_id)
        if stored is None:
            raise _ClaimGoneError
        return Written.of(whole_record(stored), trial_id)

    def _end(self, own: _Own, ended: FrozenTrial) -> bool:
        """Store how the own trial ended; returns whether it is stored like that."""
        try:
            return self._run(lambda transaction: self._end_in(transaction, own, ended, whole_record(ended)))
        except _ClaimGoneError:
            return False
        except Exception as error:
            if not is_about_data(error):
                raise
            reason = explain_data(error)
        failed = copy.copy(ended)
        failed.state, failed.system_attrs = TrialState.FAIL, {**ended.system_attrs, **trial_marks.failed(reason)}
        refused = whole_record(ended).without_data(reason)
        with contextlib.suppress(_ClaimGoneError):
            self._run(lambda transaction: self._end_in(transaction, own, failed, refused))
        return False

    def _end_in(self, transaction: Transaction, own: _Own, ended: FrozenTrial, record: TrialRecord) -> bool:
        tally = self._claims.lock(transaction)
        trial_id = own.claim.trial_id
        claim, state = transaction.run(self._claims.ending(own.claim), new_state(record, trial_id))
        if tally is None or not claim.matched:
            raise _ClaimGoneError
        if not state.matched:  # somebody without a claim has ended it, by hand or with a program of their own
            stored = read_trial(transaction, self.stored_id, trial_id)
            if stored is None:
                raise _ClaimGoneError
            transaction.run_and_commit(self._claims.saving(self._count(tally, stored)))
            return False
        missing = changes(record, self._take_written(transaction, own))
        transaction.run_and_commit(*missing, self._claims.saving(self._count(tally, ended)))
        return True

    def _insert(self, transaction: Transaction, template: FrozenTrial) -> None:
        study = self.stored_id
        _, last = transaction.run(*lock_study(study))
        trial = copy.copy(template)
        trial.number = last.rows[0][0] + 1 if last.rows else 0
        record = whole_record(trial)
        _, made = transaction.run(
            (NEW_TRIAL, new_trial_rows([record], study)),
            (LAST_ID, [(study,)]),
        )
        transaction.run_and_commit(*changes(record, Written(made.rows[0][0], record.state)))

    def _adopt(self, trial_id: int, trial: FrozenTrial) -> None:
        """Take over a trial as the database holds it."""
        number = trial.number
        for param, distribution in trial.distributions.items():
            self.stored_distributions.setdefault(param, distribution)
        if number > self.count:
            raise StorageError(
                f"trial {number} of the study is stored, but not the one before it: its rows were deleted"
            )
        if number == self.count:
            self.add(self.memory_id, trial)
        elif not self.get_trial(number).state.is_finished():
            trial._trial_id = number
            self._replace(trial)
        if trial.state.is_finished():
            self._ids.pop(number, None)
        else:
            self._ids[number] = trial_id

    def _replace(self, trial: FrozenTrial) -> None:
        self._set_trial(trial.number, trial)
        self._update_cache(trial.number, self.memory_id)
        self._note(trial)


def _with_samples(trial: FrozenTrial, stored: FrozenTrial) -> FrozenTrial:
    """A running trial as it was, with the parameters and system attributes that are stored of it."""
    sampled = copy.copy(trial)
    sampled.params, sampled.distributions = stored.params, stored.distributions
    sampled.system_attrs = stored.system_attrs
    return sampled
