"""What each row weighs, in training and in metrics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from optuna_spark.data.dataset import Dataset
from optuna_spark.data.split import Rows

Weights = npt.NDArray[np.float32]


def row_weights(dataset: Dataset, rows: Rows) -> Weights | None:
    """The weights of some rows, (len(rows),), as the table says them; None if it says none."""
    weights = dataset.rows.weights
    return None if weights is None else weights[rows].astype(np.float32)


def training_weights(dataset: Dataset, rows: Rows, *, balance_classes: bool) -> Weights | None:
    """The weights of the rows to train on, (len(rows),); None if all weigh the same.

    Args:
        dataset: The table.
        rows: The rows to train on.
        balance_classes: Whether each weight is multiplied by that of the row's class, n / (k * c): n rows in k classes,
            c of them in this class. It is scikit-learn's `class_weight="balanced"`; row weights do not change it.
    """
    if not balance_classes:
        return row_weights(dataset, rows)
    classes, codes, counts = np.unique(dataset.labels.values[rows], return_inverse=True, return_counts=True)
    of_classes = (len(rows) / (len(classes) * counts))[codes]
    weights = dataset.rows.weights
    return (of_classes if weights is None else of_classes * weights[rows]).astype(np.float32)
