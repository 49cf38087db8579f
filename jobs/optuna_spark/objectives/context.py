"""What an objective is made from, and what it is to Optuna."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna_spark.device import Device
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    import pyarrow as pa

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
