"""A table ready to train on."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optuna_spark.data.labels import Labels
from optuna_spark.data.row_roles import RowRoles


@dataclass(frozen=True, eq=False)
class Dataset:
    """A table ready to train on.

    Attributes:
        features: (n_rows, n_features) float32; NumPy on the CPU, CuPy on a GPU.
        labels: What to predict, always on the CPU.
        names: Names of the feature columns.
        key: Equal for equal tables on the same device; a key for caches of what is made from the table.
        rows: What columns of the table say of its rows, always on the CPU.
    """

    features: Any
    labels: Labels
    names: tuple[str, ...]
    key: Hashable
    rows: RowRoles = field(default_factory=RowRoles)

    @property
    def n_rows(self) -> int:
        return int(self.features.shape[0])


def host(array: Any) -> np.ndarray[Any, Any]:
    """A NumPy or CuPy array as a NumPy array."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())
