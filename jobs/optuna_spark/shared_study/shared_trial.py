"""The trial that an objective gets with `coordination: database`: Optuna's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna

from optuna_spark.shared_study.shared_storage import SharedStorage
from optuna_spark.trial_callback import Callbacks


class SharedTrial(optuna.Trial):
    """A trial of a SharedStorage. Optuna samples and prunes it with the part of the study that is shown to them.

    Attributes:
        ahead: Whether its parameters are sampled before the objective asks for them, and are written together.
    """

    storage: SharedStorage
    ahead = False
    _callbacks: Callbacks | None = None

    def on_report(self, callbacks: Callbacks) -> None:
        """Set who is told of each report."""
        self._callbacks = callbacks

    def report(self, value: float, step: int) -> None:
        super().report(value, step)
        if self._callbacks is not None:
            self._callbacks.trial_reported(self.number, int(step), float(value))

    def suggest_float(self, *args: Any, **kwargs: Any) -> float:
        return float(self._sampled(super().suggest_float, args, kwargs))

    def suggest_int(self, *args: Any, **kwargs: Any) -> int:
        return int(self._sampled(super().suggest_int, args, kwargs))

    def suggest_categorical(self, *args: Any, **kwargs: Any) -> Any:
        return self._sampled(super().suggest_categorical, args, kwargs)

    def should_prune(self) -> bool:
        self.storage.look_now_and_then()
        with self.storage.showing("pruner"):
            return bool(super().should_prune())

    def _sampled(self, suggest: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        with self.storage.showing("sampler"):
            value = suggest(*args, **kwargs)
        if not self.ahead:
            self.storage.put_now_and_then()
        return value
