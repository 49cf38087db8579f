"""Tells MLflow of a run's trials while it goes on. What it leaves out is caught up from the study (catch_up.py)."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading

from optuna.trial import FrozenTrial

from optuna_spark.spec.run_secrets import TrackingSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.tracking.messages import Answers, Ended, Mirror
from optuna_spark.tracking.target import TrackingTarget, tracking_target
from optuna_spark.tracking.tracking_process import TrackingProcess
from optuna_spark.trial_callback import CLOSE_S, TrialCallback

log = logging.getLogger(__name__)

# Trials that wait for the server. Further ones are left to the catch-up.
QUEUE = 1_000
# Seconds of a run's end in which the server may still take what waits: less than a callback has.
END_S = 0.8 * CLOSE_S


def mirrors(spec: TuningSpec, server: TrackingSecrets | None) -> list[TrialCallback]:
    """The mirror of a run, if it asks for one and its driver hears of its trials.

    With `coordination: database` it hears of none, and workers get no login: all trials are left to the catch-up.

    Raises:
        SpecError: As for `tracking_target`.
    """
    target = tracking_target(spec, server)
    return [MlflowMirror(target, spec.run_id)] if target is not None and spec.coordination == "driver" else []


class MlflowMirror:
    """A TrialCallback that hands finished trials to a process of its own, and waits for nothing.

    Args:
        target: The mirror.
        run_id: Identity of the run.
    """

    def __init__(self, target: TrackingTarget, run_id: str) -> None:
        self._target, self._run_id = target, run_id
        self._waiting: queue.Queue[FrozenTrial | Ended] = queue.Queue(QUEUE)
        self._process: TrackingProcess | None = None
        self._up = self._warned = False
        self._left_out = 0

    def trial_started(self, number: int) -> None:
        self._begin()

    def trial_reported(self, number: int, step: int, value: float) -> None:
        """A trial goes there as a whole."""

    def trial_ended(self, trial: FrozenTrial) -> None:
        self._begin()
        try:
            self._waiting.put_nowait(trial)
        except queue.Full:
            self._left_out += 1

    def run_ended(self, reason: str | None) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(Ended(reason is None))
            if self._up:  # else all is left to the catch-up, and the run ends at once
                process.ends_within(END_S)
        process.end()
        if self._left_out:
            log.info("[tuning] %s trials came faster than MLflow takes them: they follow later", self._left_out)

    def _begin(self) -> None:
        if self._process is None:
            self._process = TrackingProcess()
            for work in (self._send, self._listen):
                threading.Thread(target=work, args=(self._process,), name="mlflow", daemon=True).start()

    def _send(self, process: TrackingProcess) -> None:
        with contextlib.suppress(OSError):  # the process has ended
            process.pipe.send(Mirror(self._target, self._run_id))
            while True:
                said = self._waiting.get()
                process.pipe.send(said)
                if isinstance(said, Ended):
                    return

    def _listen(self, process: TrackingProcess) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                said: Answers = process.pipe.recv()
                self._up = not said.problem
                if said.problem and not self._warned:
                    self._warned = True
                    log.warning(
                        "[tuning] MLflow at %s does not take trials (%s): the run goes on, and they follow later",
                        self._target.server.uri,
                        said.problem,
                    )
