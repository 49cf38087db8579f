"""What every trial gives XGBoost beside its own parameters. Standard library only."""

from __future__ import annotations

from typing import Any

from optuna_spark.objectives.xgboost.metrics import metrics
from optuna_spark.objectives.xgboost.params import OBJECTIVES, typed
from optuna_spark.objectives.xgboost.section import section_of
from optuna_spark.spec.tuning import TuningSpec


def fixed_params(spec: TuningSpec) -> dict[str, Any]:
    """The same for every trial and every machine; `num_class` is not here, because it depends on the data."""
    section = section_of(spec)
    return {
        "objective": section.objective or OBJECTIVES[section.task][0],
        "tree_method": "hist",
        "eval_metric": list(metrics(spec)),
        # The same for every trial: trials then differ by their parameters alone.
        "seed": spec.seed or 0,
        **typed(section.fixed),
    }
