"""A split that a column of the table says."""

from __future__ import annotations

import numpy as np

from optuna_spark.data.dataset import Dataset
from optuna_spark.data.row_roles import TRAINS_ONLY
from optuna_spark.data.split import Part, in_order, row_hashes
from optuna_spark.errors import DataError


def split_by_column(dataset: Dataset) -> list[Part]:
    """One part for each number of a fold, as scikit-learn's PredefinedSplit has it.

    Raises:
        DataError: A side has no rows.
    """
    folds, called = dataset.rows.folds, dataset.rows.called("validation.split")
    assert folds is not None  # the reader of the table found it
    order = in_order(dataset, folds, row_hashes(dataset.features))
    sorted_folds = folds[order]
    numbers = np.unique(sorted_folds[sorted_folds != TRAINS_ONLY])
    if len(numbers) == 0:
        raise DataError(f"{called} has no validation rows: write validation, or a fold's number, in some")
    if len(numbers) == 1 and not (sorted_folds == TRAINS_ONLY).any():
        raise DataError(f"{called} has no train rows: write train, -1, or another fold's number, in some")
    return [Part(order[sorted_folds != number], order[sorted_folds == number]) for number in numbers]
