"""A table ready to train on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from optuna_spark.data.labels import Labels


@dataclass(frozen=True, eq=False)
class Dataset:
    """A table ready to train on.

    Attributes:
        features: (n_rows, n_features) float32; NumPy on the CPU, CuPy on a GPU.
        labels: What to predict, always on the CPU.
        names: Names of the feature columns.
        key: Equal for equal tables on the same device; a key for caches of what is made from the table.
        categories: Of each feature that is categories, by name: the values, sorted. The matrix holds their indices.
        test: Whether each row is a test row, (n_rows,) bool, which no trial may see; None without test rows.
    """

    features: Any
    labels: Labels
    names: tuple[str, ...]
    key: Hashable
    categories: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    test: npt.NDArray[np.bool_] | None = None

    @property
    def n_rows(self) -> int:
        return int(self.features.shape[0])

    @property
    def feature_types(self) -> list[str] | None:
        """For XGBoost, of each feature: c for categories, q for quantities. None if there are no categories."""
        return ["c" if name in self.categories else "q" for name in self.names] if self.categories else None

    @property
    def training_rows(self) -> npt.NDArray[np.intp]:
        """Numbers of the rows that trials may see: all but the test rows."""
        return np.arange(self.n_rows) if self.test is None else np.flatnonzero(~self.test)

    @property
    def test_rows(self) -> npt.NDArray[np.intp]:
        """Numbers of the test rows; empty without any."""
        return np.arange(0) if self.test is None else np.flatnonzero(self.test)


def host(array: Any) -> np.ndarray[Any, Any]:
    """A NumPy or CuPy array as a NumPy array."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())
