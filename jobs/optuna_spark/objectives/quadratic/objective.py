"""A toy objective whose best parameters are known: for tries, tests and benchmarks."""

from __future__ import annotations

from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.sampling.search_space import suggest_params


class Quadratic:
    """The sum of (x - 2)**2 over all parameters; further values of a multi-objective study ask for x = -2, -6, ...

    Raises:
        SpecError: A categorical parameter has choices that are not numbers.
    """

    def __init__(self, context: ObjectiveContext) -> None:
        self._space = context.spec.search_space
        self._centres = [2.0 - 4 * i for i in range(len(context.spec.directions))]
        for name, param in self._space.items():
            bad = [c for c in param.choices if not isinstance(c, int | float)]
            if bad:
                raise SpecError(f"objective quadratic takes numbers only, got {bad[0]!r}", f"search_space.{name}")

    def __call__(self, trial: Any) -> float | tuple[float, ...]:
        xs = suggest_params(trial, self._space).values()
        values = tuple(float(sum((x - centre) ** 2 for x in xs)) for centre in self._centres)
        return values[0] if len(values) == 1 else values
