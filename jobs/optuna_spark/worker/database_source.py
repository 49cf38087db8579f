"""Trials from the database, with `coordination: database`: each worker works on the study there itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from functools import partial

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from optuna_spark.errors import StorageError, TuningError
from optuna_spark.sampling.calling.components import Components
from optuna_spark.sampling.calling.end_trial import end_trial
from optuna_spark.sampling.sampler_facts import sampler_seed
from optuna_spark.sampling.search_space import suggest_queued
from optuna_spark.shared_study.claims import Claim
from optuna_spark.shared_study.shared_run import SampledStudy, SharedRun
from optuna_spark.shared_study.shared_storage import UPDATE_S
from optuna_spark.shared_study.shared_trial import SharedTrial
from optuna_spark.stop_and_retry import stopped_by
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.storage.trial_marks import failed
from optuna_spark.storage.trial_record import FIXED
from optuna_spark.wire.frames import SILENT_BEATS
from optuna_spark.wire.messages import Outcome
from optuna_spark.worker.study import WorkerStudy

log = logging.getLogger(__name__)

WAIT_S = 0.5  # between two looks for a trial


class DatabaseSource:
    """A TrialSource over the run's rows in the database.

    One thread uses it. Another one says that its trial's worker lives, and writes what the trial has set.
    """

    def __init__(self, run: SharedRun, worker: str) -> None:
        self._run, self._spec, self._worker = run, run.spec, worker
        self._study: SampledStudy | None = None
        self._closed = threading.Event()
        self._watch = StaleWatch(SILENT_BEATS * run.spec.coordinator.heartbeat_s)
        threading.Thread(target=self._beat, daemon=True, name="claim-beat").start()

    def ask(self) -> optuna.Trial | None:
        while (claim := self._next_claim()) is not None:
            trial = self._trial(claim.number)
            if trial is not None:
                return trial
        return None

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        storage, study = self._run.storage, self._sampled_study(trial.number)
        with storage.showing("sampler"):
            outcome = end_trial(study, trial.number, outcome, Components.of(study, self._spec))
        self._told(trial.number, outcome)

    def close(self) -> None:
        self._closed.set()
        self._run.close()
        self._run.callbacks.close()

    def _told(self, number: int, outcome: Outcome) -> None:
        ended = self._run.storage.get_trial(number)
        if ended.state != outcome.state:
            log.warning("Trial %s ended as %s, but is stored as %s", ended.number, outcome.state.name, ended.state.name)
        self._run.callbacks.trial_ended(ended)

    def _next_claim(self) -> Claim | None:
        # There may be no trial now, but one later: when a running one fails, or its worker dies.
        while (turn := self._run.begin(self._worker)).claim is None:
            if turn.over:
                return None
            for stale in self._watch.stale(self._run.tally()[1]):
                self._run.release(stale)
            time.sleep(WAIT_S)
        return turn.claim

    def _trial(self, number: int) -> SharedTrial | None:
        """The trial, with its declared parameters sampled and written; None if that has failed it."""
        storage, study = self._run.storage, self._sampled_study(number)
        self._run.callbacks.trial_started(number)
        try:
            trial = storage.alone(lambda: self._sampled(number)) if study.is_exhaustive else self._sampled(number)
        except TuningError:
            raise
        except Exception as error:  # noqa: BLE001  # queued parameters that do not fit, or the sampler's own
            trial_so_far = storage.get_trial(number)
            self._fail(number, Components.of(study, self._spec).no_parameters(trial_so_far, error))
            return None
        trial.study = WorkerStudy(study, partial(self._run.stop, stopped_by(self._worker)))
        if self._spec.search_space and not study.is_exhaustive:
            storage.put()
        return trial

    def _sampled(self, number: int) -> SharedTrial:
        storage, study = self._run.storage, self._sampled_study(number)
        study._thread_local.cached_all_trials = None  # as `study.ask` does
        with storage.showing("sampler"):
            trial = SharedTrial(study, number)
        trial.belongs_to(self._run.callbacks, Components.of(study, self._spec))
        trial.ahead, trial.alone = True, study.is_exhaustive
        suggest_queued(trial, self._spec.search_space, storage.get_trial(number).system_attrs.get(FIXED, {}))
        trial.ahead = False
        return trial

    def _fail(self, number: int, error: str) -> None:
        """End a trial that got no parameters. The sampler is not told: it has none of it, or is to blame."""
        storage = self._run.storage
        for name, note in failed(error).items():
            storage.set_trial_system_attr(number, name, note)
        storage.set_trial_state_values(number, TrialState.FAIL)
        self._told(number, Outcome(TrialState.FAIL, error=error))

    def _sampled_study(self, number: int) -> SampledStudy:
        """The study, opened for a worker whose first trial has this number.

        No other worker ever gets the same number, so no two samplers get the same seed, and one that is started again
        goes on with other samples. In a new study, the only worker samples what the driver would sample.
        """
        if self._study is None:
            self._study = self._run.study(sampler_seed(self._spec.seed, number))
        return self._study

    def _beat(self) -> None:
        beat_s, beaten = self._spec.coordinator.heartbeat_s, time.monotonic()
        while not self._closed.wait(min(UPDATE_S, beat_s)):
            beat = time.monotonic() - beaten >= beat_s
            try:
                self._run.storage.put(beat=beat)
            except StorageError as error:
                # The next beat tries again. Others take the trial for lost only after six missed beats.
                log.warning("The running trial could not be written: %s", error)
            beaten = time.monotonic() if beat else beaten


class StaleWatch:
    """Finds claims that have not changed for `grace_s` seconds of this process's clock.

    Comparing with another machine's clock would need clocks that agree.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._seen: dict[int, tuple[int, float]] = {}

    def stale(self, held: Iterable[Claim]) -> list[Claim]:
        now, result = time.monotonic(), []
        for claim in held:
            version, since = self._seen.get(claim.number, (-1, now))
            if version != claim.version:
                self._seen[claim.number] = (claim.version, now)
            elif now - since > self._grace_s:
                result.append(claim)
        return result


def rehearse() -> None:
    """Run a trial in memory: Optuna and SQLAlchemy import most of their modules when they are first used.

    Spark's Python daemon calls this before it forks the workers (spark_session.modules_to_import).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = create_storage("sqlite://")
    try:
        study = optuna.create_study(storage=storage)
        study.tell(study.ask({"x": FloatDistribution(0, 1)}), 0.0)
    finally:
        close_storage(storage)
