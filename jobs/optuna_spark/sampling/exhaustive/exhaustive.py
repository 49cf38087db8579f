"""What a run asks of a sampler that tries every point of a finite search space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState


@dataclass(frozen=True)
class Declared:
    """A declared search space; empty where the objective suggests all parameters itself.

    Attributes:
        distributions: By parameter.
        suggest: Lets a trial suggest every parameter that exists in it, in order.
    """

    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    suggest: Callable[[Any], object] = lambda trial: None


@runtime_checkable
class ExhaustiveSampler(Protocol):
    """A sampler whose points can run out. A trial takes its point when it is sampled.

    A trial that was interrupted gives its point back. One that failed keeps it, as with Optuna's samplers.

    Attributes:
        grows: Whether a running trial may show points that nobody knows yet.
    """

    grows: bool

    def serve(self, space: Declared, is_interrupted: Callable[[FrozenTrial], bool]) -> None:
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
