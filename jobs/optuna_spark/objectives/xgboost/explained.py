"""What a final model makes of its features, and how its predictions of the test rows compare with the labels."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost

# SHAP values cost a multiple of a prediction: so many rows, at most, and no more once so many seconds have passed.
SHAP_ROWS, SHAP_S, CHUNK = 1_000, 10.0, 50
POINTS, BINS = 1_000, 10


def importances(booster: xgboost.Booster, rows: Any, names: tuple[str, ...]) -> dict[str, float]:
    """The mean absolute SHAP value of each feature, the greatest first; of a classifier the mean of its classes.

    Args:
        booster: The model.
        rows: (n_rows, n_features) training rows. An even sample is looked at.
        names: Of the features.
    """
    step = -(-len(rows) // SHAP_ROWS)
    sample, started, found = rows[::step], time.monotonic(), []
    for start in range(0, len(sample), CHUNK):
        matrix = xgboost.DMatrix(
            sample[start : start + CHUNK], feature_names=booster.feature_names, feature_types=booster.feature_types
        )
        values = np.abs(booster.predict(matrix, pred_contribs=True)[..., :-1])  # the last is the bias
        found.append(values.reshape(len(values), -1, len(names)).mean(axis=1))
        if time.monotonic() - started > SHAP_S:
            break
    means = np.concatenate(found).mean(axis=0)
    return {names[i]: float(means[i]) for i in np.argsort(-means, kind="stable")}


def plot_of_test(
    predictions: npt.NDArray[np.float32], labels: npt.NDArray[np.float32], n_classes: int
) -> dict[str, Any]:
    """What the report draws of the test rows, as plain data.

    Args:
        predictions: (n_rows,) or (n_rows, n_classes): what the model says.
        labels: (n_rows,): what is so; of a classifier the numbers of the classes.
        n_classes: 0 for a regression.

    Returns:
        Of a regression `kind` residuals, with `prediction` and `residual` (label minus prediction) of an even sample.
        Of a classifier `kind` calibration: of each tenth of probabilities that holds any its mean `predicted`, the
        share `observed`, and the `count`; several classes are taken each against the others. Empty where the model
        says something else than probabilities.
    """
    if not n_classes:
        step = -(-len(labels) // POINTS)
        shown, missed = predictions[::step], (labels - predictions)[::step]
        return {
            "kind": "residuals",
            "prediction": shown.astype(float).tolist(),
            "residual": missed.astype(float).tolist(),
        }
    is_one_against_others = predictions.ndim == 2
    if (
        predictions.size != len(labels) * (n_classes if is_one_against_others else 1)
        or (n_classes > 2) != is_one_against_others
    ):
        return {}
    if predictions.min() < 0 or predictions.max() > 1:
        return {}
    so = labels[:, None] == np.arange(n_classes) if is_one_against_others else labels == 1
    said, so = predictions.ravel(), so.ravel()
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    filled = np.unique(bins)
    return {
        "kind": "calibration",
        "predicted": [float(said[bins == i].mean()) for i in filled],
        "observed": [float(so[bins == i].mean()) for i in filled],
        "count": [int((bins == i).sum()) for i in filled],
    }
