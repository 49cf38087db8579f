"""Who is told of a run's trials, such as a tracker: in a thread of its own, so that no trial waits for it."""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

CLOSE_S = 5.0


class TrialCallback(Protocol):
    """Told of the trials of a run: by the driver, or with `coordination: database` by the worker that runs the trial.

    The calls of one process come one after the other, in the order in which things happened. What a call raises is
    logged, once for each callback, and changes nothing else. With `coordination: database` each worker has a copy of
    its own, made by pickle.
    """

    def trial_started(self, number: int) -> None:
        """A worker has a trial; again, where an earlier worker gave it back before it began."""

    def trial_reported(self, number: int, step: int, value: float) -> None:
        """An objective has reported an intermediate value."""

    def trial_ended(self, trial: FrozenTrial) -> None:
        """A trial has ended: complete, pruned or failed. An earlier start of the run may have left it behind."""

    def run_ended(self, reason: str | None) -> None:
        """The run has ended. For the driver's process only.

        Args:
            reason: Why it ended before its trials were spent; None where they were.
        """


class Callbacks:
    """A TrialCallback that tells others. Thread-safe.

    Args:
        callbacks: Whom to tell.
    """

    def __init__(self, callbacks: Sequence[TrialCallback] = ()) -> None:
        self.registered = tuple(callbacks)
        self._calls: queue.SimpleQueue[Callable[[TrialCallback], None] | None] = queue.SimpleQueue()
        self._logged: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="callbacks", daemon=True) if self.registered else None
        if self._thread is not None:
            self._thread.start()

    def trial_started(self, number: int) -> None:
        self._tell(lambda callback: callback.trial_started(number))

    def trial_reported(self, number: int, step: int, value: float) -> None:
        self._tell(lambda callback: callback.trial_reported(number, step, value))

    def trial_ended(self, trial: FrozenTrial) -> None:
        if self.registered:
            ended = copy.deepcopy(trial)  # the study goes on with the original
            self._tell(lambda callback: callback.trial_ended(ended))

    def run_ended(self, reason: str | None) -> None:
        self._tell(lambda callback: callback.run_ended(reason))

    def close(self) -> None:
        """Wait until all has been told, for a few seconds at most; safe to call twice."""
        if self._thread is None:
            return
        self._calls.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.warning("[tuning] Callbacks were not done within %g s of the end: what is left is not told", CLOSE_S)

    def _tell(self, call: Callable[[TrialCallback], None]) -> None:
        if self.registered:
            self._calls.put(call)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            for place, callback in enumerate(self.registered):
                try:
                    call(callback)
                except Exception:
                    if place not in self._logged:
                        self._logged.add(place)
                        log.exception("[tuning] Callback %s failed; further failures are not shown", type(callback))


NOBODY = Callbacks()
