"""The study's trials as a worker has read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from optuna_spark.wire.messages import Part
from optuna_spark.wire.trials import read_trial

Reading = Callable[[Part, int], Any]


class StudyCopy:
    """Keeps the trials that have ended, so that the next look reads only what has changed since.

    Args:
        read: Reads a part of the study from the driver, since a position.
    """

    def __init__(self, read: Reading) -> None:
        self._read = read
        self._trials: list[FrozenTrial | None] = []  # by number
        self._position = 0

    def trials(self, with_running: bool) -> list[FrozenTrial]:
        """The trials by number, not copied. Without the running ones, those that ran at an earlier look may be there.

        Raises:
            WireError: The connection has ended.
        """
        while self._look("trials" if with_running else "ended"):
            pass
        return [trial for trial in self._trials if trial is not None]

    def best(self) -> FrozenTrial:
        """The best trial; raises what Optuna raises if there is none."""
        return read_trial(self._read("best", 0))

    def attrs(self) -> Mapping[str, dict[str, Any]]:
        """The study's attributes: `user` and `system`."""
        attrs: Mapping[str, dict[str, Any]] = self._read("attrs", 0)
        return attrs

    def _look(self, part: Part) -> bool:
        """Read the next piece; returns whether there are more."""
        answer = self._read(part, self._position)
        for message in answer["trials"]:
            self._put(read_trial(message))
        self._position = answer["next"]
        return bool(answer["more"])

    def _put(self, trial: FrozenTrial) -> None:
        missing = trial.number + 1 - len(self._trials)
        self._trials.extend([None] * missing)
        self._trials[trial.number] = trial


def in_states(trials: list[FrozenTrial], states: Any) -> list[FrozenTrial]:
    return trials if states is None else [trial for trial in trials if trial.state in states]


def needs_running(states: Any) -> bool:
    """Whether trials in these states may be running."""
    return states is None or TrialState.RUNNING in states
