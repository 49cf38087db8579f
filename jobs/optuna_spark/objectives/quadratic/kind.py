"""What is known of the objective `quadratic` before it runs."""

from __future__ import annotations

from optuna_spark.objectives.kind import ObjectiveKind
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec


class QuadraticKind(ObjectiveKind):
    """One parameter x, unless the study names others."""

    implementation = "optuna_spark.objectives.quadratic.objective:Quadratic"

    def default_space(self, _spec: TuningSpec) -> dict[str, ParamSpec]:
        return {"x": ParamSpec("float", -10, 10)}
