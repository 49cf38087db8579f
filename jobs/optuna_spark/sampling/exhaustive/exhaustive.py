"""What a run asks of a sampler that tries every point of a finite search space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.spec.sections import ParamSpec


@runtime_checkable
class ExhaustiveSampler(Protocol):
    """A sampler whose points can run out. A trial takes its point when it is sampled.

    A trial that was interrupted gives its point back. One that failed keeps it, as with Optuna's samplers.

    Attributes:
        grows: Whether a running trial may show points that nobody knows yet.
    """

    grows: bool

    def serve(self, space: Mapping[str, ParamSpec], is_interrupted: Callable[[FrozenTrial], bool]) -> None:
        """Be the sampler of a run from now on.

        Args:
            space: The declared search space.
            is_interrupted: Whether a failed trial was interrupted, so that its point is to be tried again.

        Raises:
            SpecError: The search space does not fit the sampler.
        """

    def has_free(self, storage: BaseStorage, study_id: int) -> bool:
        """Whether there is a point that no trial has taken."""


class Unread:
    """Tells which trials of a study can have changed since the last look: a finished one is seen once."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._count = 0

    def take(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those trials, of all trials in the order of their numbers."""
        found = [trials[number] for number in [*self._open, *range(self._count, len(trials))]]
        self._open = [trial.number for trial in found if not trial.state.is_finished()]
        self._count = len(trials)
        return found


def takes_its_point(trial: FrozenTrial, is_interrupted: Callable[[FrozenTrial], bool]) -> bool:
    """Whether no other trial is to try a trial's point."""
    return trial.state != TrialState.FAIL or not is_interrupted(trial)


def never(_trial: FrozenTrial) -> bool:
    """Of a sampler without a run: no failed trial was interrupted."""
    return False
