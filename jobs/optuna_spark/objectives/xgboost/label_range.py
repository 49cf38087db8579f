"""The labels that an objective of XGBoost's can be trained on."""

from __future__ import annotations

import numpy as np

from optuna_spark.data.dataset import Dataset
from optuna_spark.errors import DataError

# What each wants of a label, in words; the least and the greatest one; whether the least one is allowed itself.
# https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html, `objective`.
_RANGES = {
    "count:poisson": ("of at least 0", 0.0, np.inf, True),
    "reg:tweedie": ("of at least 0", 0.0, np.inf, True),
    "reg:gamma": ("above 0", 0.0, np.inf, False),
    "reg:logistic": ("from 0 to 1", 0.0, 1.0, True),
    "reg:squaredlogerror": ("above -1", -1.0, np.inf, False),
}


def check_labels(dataset: Dataset, objective: str) -> None:
    """Refuse labels that would fail each trial.

    Args:
        dataset: The table.
        objective: XGBoost's name of what it minimises.

    Raises:
        DataError: How many labels are out of its range.
    """
    if objective not in _RANGES:
        return
    words, least, greatest, closed = _RANGES[objective]
    labels = dataset.labels.values[dataset.training_rows]
    wrong = (labels > greatest) | ((labels < least) if closed else (labels <= least))
    if wrong.any():
        raise DataError(
            f"objective {objective} needs labels {words}, got {int(wrong.sum())} others: name another column in"
            " data.label, or another xgboost.objective"
        )
