"""What a trial computes: the built-in objectives and a user's own `module:function`.

Imports nothing heavy: the Airflow side reads the default search spaces and checks study files with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna_spark.device import Device
from optuna_spark.objectives.defaults import default_search_space, effective_search_space
from optuna_spark.objectives.xgboost.metrics import metrics
from optuna_spark.objectives.xgboost.params import check_parameters
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Objective",
    "ObjectiveContext",
    "build_objective",
    "check_objective",
    "default_search_space",
    "effective_search_space",
]

Objective = Callable[[Any], float | Sequence[float]]


@dataclass(frozen=True)
class ObjectiveContext:
    """What an objective is made from; a user's own may take it as its second argument.

    Attributes:
        spec: The run.
        device: What this worker's trials run on.
        table: The training table, when Spark read it (distribution `dataframe`).
        data_secrets: What `data.connection` holds, for `load_dataset`.
    """

    spec: TuningSpec
    device: Device
    table: pa.Table | None = None
    data_secrets: DataSecrets = field(default_factory=DataSecrets, repr=False)


def check_objective(spec: TuningSpec) -> None:
    """Check what can be known without data: parameter names, metrics and directions.

    Raises:
        SpecError: The first thing wrong.
    """
    if spec.objective == "xgboost":
        check_parameters(spec, effective_search_space(spec))
        metrics(spec)


def build_objective(context: ObjectiveContext) -> Objective:
    """The objective as Optuna calls it. Loads the data, once per process.

    Raises:
        SpecError: The objective or its parameters are wrong.
        DataError: The training table is.
        DeviceError: The GPU is not there.
    """
    check_objective(context.spec)
    if context.spec.objective == "quadratic":
        from optuna_spark.objectives.quadratic import Quadratic

        return Quadratic(context.spec)
    if context.spec.objective == "xgboost":
        from optuna_spark.objectives.xgboost.objective import XGBoostObjective

        return XGBoostObjective(context)
    from optuna_spark.objectives.custom import load_objective

    return load_objective(context.spec.objective, context)
