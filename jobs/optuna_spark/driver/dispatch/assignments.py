"""Which worker runs which trial of a run, which trials come next, and what the budget still allows."""

from __future__ import annotations

import datetime
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from optuna_spark.driver.dispatch.budget import Budget
from optuna_spark.driver.dispatch.study import SampledStudy, StoredStudy, UnbegunTrialError
from optuna_spark.errors import TuningError
from optuna_spark.sampling.enqueue import new_sets
from optuna_spark.sampling.history import FINISHED_WELL
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import EXHAUSTED, LOST, BestTrial, is_forgiven, should_terminate
from optuna_spark.storage.limits import ERROR_CHARACTERS
from optuna_spark.storage.trial_marks import begun, kept, left_to_try, marks_of, next_try, run_id_of
from optuna_spark.storage.trial_record import Refusal, TrialRecord
from optuna_spark.trial_callback import TrialCallback
from optuna_spark.wire.messages import Assignment, Changes, Outcome, Part, Worker
from optuna_spark.wire.sealing import WireError

log = logging.getLogger(__name__)

# The row of a running trial is written at most this often: an objective may report thousands of values a second.
UPDATE_S = 0.5
# One trial is sampled ahead per 16 workers. One per 4 (of 32 workers) was seen to cost search quality, this was not.
WORKERS_PER_AHEAD = 16
# Optuna's terminator reads all trials of the study, so it is not asked after each of them.
TERMINATOR_EVERY = 10


class Now(NamedTuple):
    """One moment on two clocks: naive local time, as Optuna uses it, and seconds of the monotonic clock."""

    local: datetime.datetime
    seconds: float


class Journal(Protocol):
    """Takes every change that the database must hold. `Committer` (storage/group_commit.py) writes them."""

    def put(self, record: TrialRecord) -> None: ...

    def put_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def put_user_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def commit(self, record: TrialRecord) -> Future[None]: ...

    def take_refusals(self) -> list[Refusal]: ...


class _Rows:
    """A journal that knows how many trials have a row, or will have one: rows are written in the order of the numbers.

    Args:
        journal: Takes the changes.
        rows: How many rows there are.
    """

    def __init__(self, journal: Journal, rows: int) -> None:
        self._journal, self.count = journal, rows
        self.put_attrs, self.put_user_attrs = journal.put_attrs, journal.put_user_attrs
        self.take_refusals = journal.take_refusals

    def put(self, record: TrialRecord) -> None:
        self.count = max(self.count, record.number + 1)
        self._journal.put(record)

    def commit(self, record: TrialRecord) -> Future[None]:
        self.count = max(self.count, record.number + 1)
        return self._journal.commit(record)


@dataclass
class _Held:
    """A trial that a worker runs.

    Attributes:
        put_at: When its row was written last, in seconds of `Now`.
        reports_put: How many of its reports were written.
    """

    trial: Trial
    worker: Worker
    start: Now
    put_at: float
    reports_put: int = 0


class Assignments:
    """Hands out trials and takes their results. Not thread-safe: everything happens in one thread.

    It reads no clock and waits for nothing. The caller passes the time in, and changes go out to the journal.

    Trials are handed out in the order of their numbers. A trial that was sampled ahead has no row in the database until
    a worker gets it, so a run that ends early leaves none of them behind.

    Args:
        spec: The run.
        stored: The study as the database holds it.
        journal: Takes every change.
        callbacks: Told of each trial that starts, reports a value or ends.
    """

    def __init__(self, spec: TuningSpec, stored: StoredStudy, journal: Journal, callbacks: TrialCallback) -> None:
        self._spec, self._callbacks = spec, callbacks
        self._journal = _Rows(journal, len(stored.trials))
        self._study = SampledStudy(spec, stored)
        self._held: dict[int, _Held] = {}
        self._ahead: deque[Trial] = deque()
        # Numbers of those trials in _ahead that have a row all the same: a worker got them and gave them back.
        self._ahead_with_row: set[int] = set()
        # Why a trial that has not ended fails when it ends: the database cannot hold, or has refused, what it has set.
        self._unfit: dict[int, str] = {}
        # Trials whose data the database has refused, and the ended ones among them.
        self._refused: set[int] = set()
        self._refused_ended: set[int] = set()
        # Trials that finished and are not durable yet. The committer's thread takes numbers out, which a set survives.
        self._uncommitted: set[int] = set()
        self._settled = True  # whether all finished trials are known to be stored, or to be refused
        self._best = BestTrial(spec)
        self._best.see_all(stored.trials)
        # A resumed run counts the trials of its earlier starts, but not those of other runs of the study.
        mine = [t for t in stored.trials if run_id_of(t) == spec.run_id]
        failed = sum(t.state == TrialState.FAIL and not is_forgiven(t, spec.stop) for t in mine)
        pruned = sum(t.state == TrialState.PRUNED for t in mine)
        self.budget = Budget(spec, sum(t.state in FINISHED_WELL for t in mine), failed, pruned)
        self._recover(stored.trials)
        self._check_stops()

    @property
    def best(self) -> FrozenTrial | None:
        """The study's best trial; None with several directions."""
        return self._best.trial

    @property
    def running(self) -> int:
        """How many trials the workers have."""
        return len(self._held)

    @property
    def available(self) -> int:
        """How many trials can be handed out now."""
        return 0 if self.budget.reason else len(self._ahead) + self._left

    @property
    def over(self) -> bool:
        """Whether no trial will be started any more.

        The last trials count once they are durable: in place of one that the database refuses another one is started.
        """
        return self.budget.error is not None or (self.budget.over and self._settled)

    @property
    def waits_for_database(self) -> bool:
        """Whether the run is over unless the database refuses one of the last trials."""
        return self.budget.over and not self.over

    @property
    def has_stock(self) -> bool:
        """Whether a trial that was sampled ahead waits for a worker."""
        return bool(self._ahead)

    @property
    def most_workers_needed(self) -> int:
        """How many idle workers may still get a trial, if each running one is lost and retried as often as allowed."""
        unsure = 0 if self._settled else 1  # a trial that the database refuses is replaced by another one
        unknown = self.budget.left if self._study.may_grow else 0
        return self.available + self.running * (1 + self._spec.stop.max_retries) + unsure + unknown

    def ask(self, worker: Worker, now: Now) -> Assignment | None:
        """Give a worker a trial; None when there is none now (`over` tells whether there may be one later)."""
        if self.budget.reason:
            return None
        trial = self._ahead.popleft() if self._ahead else self._sample()
        if trial is None:
            self._check_exhausted()
            return None
        return self._hand_out(trial, worker, now)

    def wants_ahead(self, workers: int) -> bool:
        """Whether a trial should be sampled ahead now, when `workers` workers are connected.

        A trial that was sampled ahead misses the results that arrive before it is handed out. So there are only a few
        of them. With one worker there is none: its run equals Optuna's own sequential search.
        """
        if workers < 2 or not self._spec.coordinator.ask_ahead:
            return False
        return self._left > 0 and len(self._ahead) < max(1, workers // WORKERS_PER_AHEAD)

    def sample_ahead(self) -> None:
        """Sample a trial for the next worker that asks."""
        if (trial := self._sample()) is not None:
            self._study.prepare(trial)
            self._ahead.append(trial)

    def suggest(self, worker: Worker, number: int, name: str, distribution: BaseDistribution, now: Now) -> float:
        """Sample a parameter as `optuna.Trial` does; returns its internal representation, raises what Optuna raises."""
        value = self._study.suggest(self._of(worker, number).trial, name, distribution)
        self._put_now_and_then(number, now)
        return value

    def relative(self, worker: Worker, number: int) -> tuple[dict[str, float], dict[str, BaseDistribution]]:
        """A trial's relative parameters, in internal representation, and their distributions."""
        return self._study.relative(self._of(worker, number).trial)

    def read(self, part: Part, since: int) -> str:
        """A part of the study as JSON; raises what Optuna raises where there is no best trial."""
        return self._study.access.read(part, since)

    def set_study_attr(self, key: str, value: Any, system: bool) -> None:
        """Set an attribute of the study for an objective.

        Raises:
            ValueError: It does not fit.
        """
        self._study.access.set_attr(key, value, system)
        (self._journal.put_attrs if system else self._journal.put_user_attrs)({key: value})

    def enqueue(self, params: Mapping[str, Any], attrs: Mapping[str, Any]) -> int:
        """Queue parameters for an objective; returns the number of the trial that waits.

        Raises:
            RuntimeError: Too many trials wait.
        """
        self._study.access.check_room()
        number = self._study.queue(params, {}, attrs)
        self._give_rows(number + 1)
        return number

    def update(self, worker: Worker, number: int, changes: Changes, now: Now) -> None:
        """Store what the objective reported and set.

        Raises:
            WireError: The worker does not have this trial, or reports values of a study with several directions.
        """
        trial = self._of(worker, number).trial
        if changes.unfit is not None:
            self._unfit.setdefault(number, changes.unfit)
        if changes.reports and len(self._study.directions) > 1:
            raise WireError(
                f"worker {worker.name} reports values of trial {number}, whose study has several directions"
            )
        self._study.update(trial, changes)
        for step, value in changes.reports:
            self._callbacks.trial_reported(number, step, value)
        self._put_now_and_then(number, now)

    def should_prune(self, worker: Worker, number: int) -> bool:
        trial = self._of(worker, number).trial
        return len(self._study.directions) == 1 and self._study.should_prune(trial)

    def unfit(self, worker: Worker, number: int) -> str | None:
        """Which rule of the database a worker's trial breaks, if it breaks one. It fails when it ends."""
        self._of(worker, number)
        return self._unfit.get(number)

    def seconds(self, worker: Worker, number: int, now: Now) -> float:
        """How many seconds a worker has had a trial."""
        return now.seconds - self._of(worker, number).start.seconds

    def tell(self, worker: Worker, number: int, outcome: Outcome) -> Future[None]:
        """End a worker's trial; the returned future is done once the database holds it.

        Raises:
            WireError: The worker does not have this trial, or the number of values is wrong.
        """
        wanted = len(self._study.directions)
        if outcome.values is not None and len(outcome.values) != wanted:
            raise WireError(f"trial {number} must end with {wanted} value(s), got {len(outcome.values)}")
        self._of(worker, number)
        if (unfit := self._unfit.get(number)) is not None:
            outcome = Outcome(TrialState.FAIL, error=unfit[:ERROR_CHARACTERS])
        outcome = self._end(number, outcome)
        self.budget.end(number, outcome.state, outcome.error)
        done = self._commit(number)
        if outcome.state != TrialState.FAIL:
            self._settled = False
            self._uncommitted.add(number)
            done.add_done_callback(lambda _: self._uncommitted.discard(number))
        self._best.see(self._study.frozen(number))
        self._check_stops()
        return done

    def settle(self) -> None:
        """Take note of what the database has stored, and of what it has refused."""
        # Looked at first: a trial is among the refusals before it leaves _uncommitted.
        settled = not self._uncommitted
        for refusal in self._journal.take_refusals():
            self._refuse(refusal)
        self._settled = settled

    def release(self, worker: Worker, number: int) -> None:
        """Take back a trial that a worker has not begun."""
        trial = self._of(worker, number).trial
        del self._held[number]
        # Sorted, because trials are handed out in the order of their numbers.
        self._ahead = deque(sorted([trial, *self._ahead], key=lambda t: t.number))
        self._ahead_with_row.add(number)

    def leave(self, worker: Worker) -> None:
        """Fail the trials of a worker that has gone; their parameters are queued again, a few times at most."""
        for number in [n for n, held in self._held.items() if held.worker == worker]:
            self._lose(number, again=not self.budget.over)
        self._check_exhausted()

    def cut(self, error: str) -> None:
        """Fail all running trials: their time is over. What their workers still say of them is refused."""
        for number in list(self._held):
            self._end(number, Outcome(TrialState.FAIL, error=error))
            self.budget.cut()
            self._journal.commit(self._record(number))
            del self._held[number]

    def close(self) -> None:
        """Leave no trial running: the run is over, and all workers have gone."""
        for number in list(self._held):
            self._lose(number, again=False)
        for trial in self._ahead:
            if trial.number in self._ahead_with_row:
                self._end(trial.number, Outcome(TrialState.FAIL, error=LOST))
                self._journal.put(self._record(trial.number))
        self._ahead.clear()

    def _hand_out(self, trial: Trial, worker: Worker, now: Now) -> Assignment:
        # A queued trial of version 0.1.0 has its notes as user attributes, which are not read from now on.
        notes = kept(self._study.frozen(trial.number))
        self._study.mark(trial.number, {**notes, **begun(self._spec.run_id, worker.name, now.local)})
        self._study.begin(trial.number, now.local)
        self._held[trial.number] = _Held(trial, worker, now, now.seconds)
        self._ahead_with_row.discard(trial.number)
        record = self._record(trial.number)
        self._journal.put(record)
        self._callbacks.trial_started(trial.number)
        others = self._study.undeclared(trial.number)
        return Assignment(trial.number, now.local, record.params, record.user_attrs, others)

    def _sample(self) -> Trial | None:
        while self._left:
            try:
                trial = self._study.ask()
                if (unfit := self._unfit.get(trial.number)) is not None:
                    self._fail_unbegun(trial.number, unfit)
                    continue
                self.budget.start()
                self._put_study_attrs()
                return trial
            except UnbegunTrialError as error:
                # It ends its own trial, not the run: go on to the next, until too many have failed in a row.
                self._fail_unbegun(error.number, str(error))
            except TuningError as error:
                log.exception("No trial could be sampled")
                self.budget.fail(error)
        return None

    @property
    def _left(self) -> int:
        """How many trials may be sampled now, at most; 0 if there is nothing to try."""
        left = self.budget.left
        return left if left and self._study.has_next else 0

    def _fail_unbegun(self, number: int, reason: str) -> None:
        self._give_rows(number)
        self._study.mark(number, begun(self._spec.run_id, start=self._study.frozen(number).datetime_start))
        self.budget.start()
        self._study.close_unbegun(number, reason[-ERROR_CHARACTERS:])
        self.budget.end(number, TrialState.FAIL, reason)
        self._put_study_attrs()
        self._callbacks.trial_ended(self._study.frozen(number))
        self._journal.put(self._record(number))

    def _give_rows(self, end: int) -> None:
        """Give rows to the trials below a number that have none: rows are written in the order of the numbers."""
        ahead = {trial.number for trial in self._ahead}
        for number in range(self._journal.count, end):
            if number in ahead:
                self._ahead_with_row.add(number)
            self._journal.put(self._record(number))

    def _end(self, number: int, outcome: Outcome) -> Outcome:
        """End a trial; returns how it has ended."""
        outcome = self._study.tell(number, outcome)
        self._put_study_attrs()
        self._callbacks.trial_ended(self._study.frozen(number))
        return outcome

    def _commit(self, number: int) -> Future[None]:
        """Write a trial that has ended, and take it from its worker."""
        done = self._journal.commit(self._record(number))  # needs the start time, so before it leaves _held
        del self._held[number]
        self._unfit.pop(number, None)
        self._refused.discard(number)
        return done

    def _refuse(self, refusal: Refusal) -> None:
        """Fail a trial whose data the database has refused.

        The sampler keeps what it has learned of one that had ended: the value is right, it is only not stored.
        """
        number, state = refusal.number, self._study.frozen(refusal.number).state
        if not state.is_finished():
            self._unfit[number] = refusal.reason
            self._refused.add(number)
        elif refusal.ended and state in FINISHED_WELL:
            self._refused_ended.add(number)
            self.budget.refuse(number, refusal.reason, refusal.in_a_row)
            self._best = BestTrial(self._spec)
            self._best.see_all([t for t in self._study.trials() if t.number not in self._refused_ended])
            if not self._best.reaches_target:
                self.budget.go_on(self._target_reached)

    def _lose(self, number: int, again: bool) -> None:
        held = self._held[number]
        log.warning("Trial %s is lost with its worker %s", number, held.worker.name)
        self._end(number, Outcome(TrialState.FAIL, error=LOST))
        lost = self._study.frozen(number)
        # The trial is not to blame for a lost worker, so its first losses do not count as failures.
        if is_forgiven(lost, self._spec.stop):
            self.budget.lose()
        else:
            self.budget.end(number, lost.state, LOST)
        self._commit(number)
        if again:
            self._queue_again(lost)

    def _queue_again(self, lost: FrozenTrial) -> None:
        params = left_to_try(lost) if is_forgiven(lost, self._spec.stop) else None
        if params is not None:
            self._study.queue(params, {**begun(self._spec.run_id), **next_try(lost)})

    def _recover(self, trials: Sequence[FrozenTrial]) -> None:
        """Fail the trials that a dead driver left running, and queue the parameters to try first."""
        for number in [t.number for t in trials if t.state == TrialState.RUNNING]:
            self._study.close_abandoned(number, LOST)
            self._journal.put(self._record(number))
            self._callbacks.trial_ended(self._study.frozen(number))
        # A lost trial that has a successor in the study was queued by an earlier start.
        tried_again = {marks_of(t).retried_from for t in trials}
        for trial in self._study.trials():
            mine = run_id_of(trial) == self._spec.run_id and trial.number not in tried_again
            if mine and not self.budget.over:
                self._queue_again(trial)
        for params in new_sets(self._spec.enqueue, self._study.trials()):
            self._study.queue(params, begun(self._spec.run_id))
        for trial in self._study.trials()[len(trials) :]:
            self._journal.put(self._record(trial.number))

    def _record(self, number: int) -> TrialRecord:
        trial, held = self._study.frozen(number), self._held.get(number)
        if held is None:
            record = TrialRecord.of(trial, trial.datetime_start)
        else:
            record = TrialRecord.of(trial, held.start.local, held.reports_put)
            held.reports_put = len(trial.intermediate_values)
        return record.without_data(self._unfit[number]) if number in self._refused else record

    def _put_now_and_then(self, number: int, now: Now) -> None:
        held = self._held[number]
        if now.seconds - held.put_at > UPDATE_S:
            held.put_at = now.seconds
            self._journal.put(self._record(number))

    def _put_study_attrs(self) -> None:
        if attrs := self._study.take_new_attrs():
            self._journal.put_attrs(attrs)

    def _of(self, worker: Worker, number: int) -> _Held:
        held = self._held.get(number)
        if held is None or held.worker != worker:
            raise WireError(f"worker {worker.name} speaks of trial {number}, which it does not have")
        return held

    @property
    def _target_reached(self) -> str:
        return f"the target value {self._spec.stop.target_value or 0:g} was reached"

    def _check_exhausted(self) -> None:
        """End the run if there is nothing left to try. A running trial may yet be lost, and tried again."""
        if not self._held and not self._ahead and not self.budget.over and not self._study.has_next:
            self.budget.stop(EXHAUSTED)

    def _check_stops(self) -> None:
        self._check_exhausted()
        if self._best.reaches_target:
            self.budget.stop(self._target_reached)
        if (
            self._spec.stop.terminator
            and self.budget.finished % TERMINATOR_EVERY == 0
            and should_terminate(self._study.trials(), self._study.directions)
        ):
            self.budget.stop("Optuna's terminator expects no further improvement")
