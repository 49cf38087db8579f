"""A run in the database, for one process: the driver's or a worker's."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from optuna_spark.database.connection import Transaction
from optuna_spark.database.patient import PatientDatabase
from optuna_spark.objectives.registry import max_steps
from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.sampling.enqueue import new_sets
from optuna_spark.sampling.exhaustive.exhaustive import ExhaustiveSampler
from optuna_spark.sampling.search_space import declared
from optuna_spark.shared_study.claims import Claim, Claims, Queued, Turn, lock_study
from optuna_spark.shared_study.close_trial import fail_trial
from optuna_spark.shared_study.counting import counted, counts_of
from optuna_spark.shared_study.shared_storage import SharedStorage
from optuna_spark.shared_study.tally import Tally, stopped
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import EXHAUSTED, LOST, is_forgiven, was_interrupted
from optuna_spark.storage.trial_marks import begun, left_to_try, marks_of, next_try, run_id_of
from optuna_spark.trial_callback import NOBODY, Callbacks

log = logging.getLogger(__name__)


class SampledStudy(optuna.Study):
    """The study as samplers see it: one that is exhausted calls `stop`, which stops the run.

    Optuna's own `stop` raises outside of `study.optimize`.

    Args:
        run: The run.
        sampler, pruner: Its own.

    Attributes:
        is_exhaustive: Whether its sampler must know all points that other processes have taken.
    """

    def __init__(self, run: SharedRun, sampler: BaseSampler, pruner: BasePruner) -> None:
        super().__init__(run.spec.study_name, run.storage, sampler, pruner)
        self._stop_run: Callable[[], None] | None = partial(run.stop, EXHAUSTED)
        self.is_exhaustive = isinstance(sampler, ExhaustiveSampler)

    def stop(self) -> None:
        if self._stop_run is not None:
            self._stop_run()


@dataclass(frozen=True)
class SharedRun:
    """One process's access to a start of a run in the database. Its calls are short transactions.

    Attributes:
        spec: The run.
        database: Its connection.
        storage: The study.
        claims: The rows of this start of the run.
        points: Knows which points of the search space are left; None if they do not run out.
        callbacks: Those of this process.
    """

    spec: TuningSpec
    database: PatientDatabase = field(repr=False)
    storage: SharedStorage
    claims: Claims
    points: ExhaustiveSampler | None
    callbacks: Callbacks = NOBODY

    @classmethod
    def open(cls, spec: TuningSpec, url: str, key: str, callbacks: Callbacks = NOBODY) -> SharedRun:
        """Open the study. Some process has made it and the tables before.

        Args:
            spec: The run.
            url: The database.
            key: Of this start of the run; see `new_key`.
            callbacks: Those of this process.
        """
        database = PatientDatabase(url)
        try:
            sampler = _sampler(spec, None)
            storage = SharedStorage(database, spec.study_name, sampler, spec.coordinator.history)
        except BaseException:
            database.close()
            raise
        points = sampler if isinstance(sampler, ExhaustiveSampler) else None
        return cls(spec, database, storage, Claims(key, storage.stored_id), points, callbacks)

    def study(self, seed: int | None) -> SampledStudy:
        """The study with the run's sampler and pruner."""
        pruner = build_pruner(self.spec.pruner, max_steps(self.spec))
        return SampledStudy(self, _sampler(self.spec, seed), pruner)

    def start(self) -> None:
        """Begin this start of the run, or resume the run: every worker of an earlier start is shut out.

        Its counts come from the study's trials, so nothing that an earlier start left behind can make them wrong.
        """
        closed = self.database.run(self._start)
        self.storage.look()
        self._tell_ended(closed)

    def finish(self, error: str = LOST) -> tuple[Tally | None, int]:
        """End this start of the run: its workers change nothing from now on, and no trial stays running.

        Args:
            error: Of the trials that still run.

        Returns:
            The last counts, None if this start was over before; and how many of its trials failed now. These are not
            among the counts, and no limit on failures is meant for them.
        """

        def finish_in(transaction: Transaction) -> tuple[Tally | None, list[FrozenTrial]]:
            return self.claims.lock(transaction), self._clear(transaction, error)

        tally, closed = self.database.run(finish_in)
        self._tell_ended(closed)
        return tally, sum(self._is_mine(trial) and not is_forgiven(trial, self.spec.stop) for trial in closed)

    def begin(self, worker: str) -> Turn:
        """Begin a trial for this process."""
        start = datetime.now()
        marks = begun(self.spec.run_id, worker, start)
        return self.storage.begin(self.claims, start, marks, self._count, self.points)

    def stop(self, reason: str, *, broken: bool = False) -> None:
        """Begin no further trial; running trials may end. The first reason is kept."""

        def stop_in(transaction: Transaction) -> None:
            tally = self.claims.lock(transaction)
            if tally is not None:
                transaction.run(self.claims.saving(stopped(tally, reason, broken=broken)))

        self.database.run(stop_in)

    def tally(self) -> tuple[Tally | None, list[Claim]]:
        """The run's counts and its running trials; no counts once this start of the run is over."""
        return self.database.run(self.claims.tally)

    def release(self, claim: Claim) -> None:
        """Fail the trial of a worker that seems dead, and try its parameters again, a few times at most.

        If the worker tells its trial at this moment, whichever comes first counts.
        """
        closed = self.database.run(lambda transaction: self._release(transaction, claim))
        if closed is not None:
            self._tell_ended([closed])

    def is_gone(self) -> bool:
        """Whether the study was deleted."""
        name = "SELECT study_name FROM studies WHERE study_id = %s"
        (found,) = self.database.run(lambda transaction: transaction.run((name, [(self.storage.stored_id,)])))
        return not found.rows

    def close(self) -> None:
        """Close the connection."""
        self.database.close()

    def _is_mine(self, trial: FrozenTrial) -> bool:
        return run_id_of(trial) == self.spec.run_id

    def _count(self, tally: Tally, trial: FrozenTrial) -> Tally:
        return counted(self.spec, tally, trial)

    def _start(self, transaction: Transaction) -> list[FrozenTrial]:
        closed = self._clear(transaction, LOST)
        self.storage.look(transaction)
        trials = self.storage.everything(self.storage.memory_id)
        mine = [trial for trial in trials if self._is_mine(trial)]
        tally = counts_of(self.spec, trials, mine)
        again = [] if tally.over else self._lost(mine, trials)
        self.claims.create(transaction, tally, [*again, *map(Queued, new_sets(self.spec.enqueue, trials))])
        return closed

    def _lost(self, mine: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]) -> list[Queued]:
        """The parameters of lost trials that no trial has taken over yet."""
        taken_over = {marks_of(trial).retried_from for trial in trials}
        return [again for t in mine if t.number not in taken_over and (again := self._again(t)) is not None]

    def _again(self, trial: FrozenTrial) -> Queued | None:
        params = left_to_try(trial) if is_forgiven(trial, self.spec.stop) else None
        return None if params is None else Queued(params, next_try(trial))

    def _clear(self, transaction: Transaction, error: str) -> list[FrozenTrial]:
        """Remove the rows of every start, and close what runs."""
        study = self.storage.stored_id
        self.claims.clear(transaction)
        running = "SELECT trial_id FROM trials WHERE study_id = %s AND state = 'RUNNING' ORDER BY trial_id"
        _, _, found = transaction.run(*lock_study(study), (running, [(study,)]))
        closed = (fail_trial(transaction, study, trial_id, error) for (trial_id,) in found.rows)
        return [trial for trial in closed if trial is not None]

    def _release(self, transaction: Transaction, claim: Claim) -> FrozenTrial | None:
        tally = self.claims.lock(transaction)
        (ended,) = transaction.run(self.claims.ending_stale(claim))
        if tally is None or not ended.matched:
            return None
        trial = fail_trial(transaction, self.storage.stored_id, claim.trial_id, LOST)
        if trial is not None:
            again = None if tally.over else self._again(trial)
            self.claims.queue(transaction, [] if again is None else [again])
            transaction.run(self.claims.saving(self._count(tally, trial)))
        return trial

    def _tell_ended(self, closed: Sequence[FrozenTrial]) -> None:
        for trial in closed:
            log.warning("Trial %s was left running, and is closed", trial.number)
            self.callbacks.trial_ended(trial)


def _sampler(spec: TuningSpec, seed: int | None) -> BaseSampler:
    sampler = build_sampler(spec.sampler, seed)
    if isinstance(sampler, ExhaustiveSampler):
        sampler.serve(declared(spec.search_space), lambda trial: was_interrupted(trial, spec))
    return sampler


def new_key() -> str:
    """A key for one start of a run."""
    return secrets.token_hex(16)
