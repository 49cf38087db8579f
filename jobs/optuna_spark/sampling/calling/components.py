"""A study's sampler and pruner by the names that the user gave them, for the errors that they raise."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_spark.errors import TuningError, error_text
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_record import FIXED

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Components:
    """Names the sampler or pruner whose own code has raised an error.

    Attributes:
        study: The study with them.
        sampler, pruner: What the study file calls them.
    """

    study: Study
    sampler: str
    pruner: str

    @classmethod
    def of(cls, study: Study, spec: TuningSpec) -> Components:
        return cls(study, spec.sampler.name, spec.pruner.name)

    def culprit(self, error: BaseException) -> str | None:
        """Which of the two has raised an error; None if neither has."""
        on_stack = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(one is self.study.sampler for one in on_stack):
            return f"sampler {self.sampler}"
        return f"pruner {self.pruner}" if any(one is self.study.pruner for one in on_stack) else None

    def told(self, call: Callable[[], T]) -> T:
        """Make a call for an objective; returns what it returns, and raises what it raises.

        Raises:
            RuntimeError: The sampler or the pruner failed. It is named.
        """
        try:
            return call()
        except TuningError:
            raise
        except Exception as error:
            culprit = self.culprit(error)
            if culprit is None:
                raise
            raise RuntimeError(_sentence(culprit, error)) from error

    def failure(self, error: Exception) -> str:
        """The error of a trial on which the sampler has failed. Its last line names sampler and cause."""
        return f"{error_text(error)}\n{_sentence(f'sampler {self.sampler}', error)}"

    def no_parameters(self, trial: FrozenTrial, error: Exception) -> str:
        """The error of a trial that gets no parameters: the sampler failed, or those that were queued do not fit."""
        # Optuna marks a trial from enqueue_trial with this attribute.
        queued = FIXED in trial.system_attrs and isinstance(error, ValueError | TypeError | OverflowError)
        if queued and self.culprit(error) is None:
            return f"the queued parameters do not fit the search space: {error}"
        log.warning("Trial %s gets no parameters", trial.number, exc_info=error)
        return self.failure(error)


def _sentence(culprit: str, error: Exception) -> str:
    return f"{culprit} failed: {type(error).__name__}: {error}"
