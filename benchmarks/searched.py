"""What the long searches of case d minimise: two bowls and models of a real table. Each costs little to evaluate.

Every contender is given the same search space. This module needs NumPy, and scikit-learn for the table alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optuna_spark.spec.sections import ParamSpec

Array = NDArray[np.float64]
FOLDS = 5
# The model's features: the ten columns, with their squares, with their products as well.
TERMS = {"linear": 10, "squares": 20, "products": 65}


@dataclass(frozen=True)
class Searched:
    """A function to minimise.

    Attributes:
        space: Its search space.
        value: Its value for a trial's parameters.
        least: Its least value; None where nobody knows.
    """

    space: Mapping[str, ParamSpec]
    value: Callable[[Mapping[str, Any]], float]
    least: float | None = None


def bowl(dimensions: int) -> Searched:
    """A bowl around (2, -3, 2, ...), which every sampler finds: what differs is how near to its bottom it comes."""
    centres = {f"x{i}": 2.0 if i % 2 == 0 else -3.0 for i in range(dimensions)}
    space = {name: ParamSpec("float", -10.0, 10.0) for name in centres}
    return Searched(space, lambda p: float(sum((p[name] - centre) ** 2 for name, centre in centres.items())), least=0.0)


def ridge() -> Searched:
    """Ridge regression of scikit-learn's diabetes table (442 rows), 5 folds: root mean squared error.

    Searched are the features, the penalty of the columns and that of their products, and the power of the target that
    the model is fitted to.
    """
    space = {
        "terms": ParamSpec("categorical", choices=tuple(TERMS)),
        "columns_l2": ParamSpec("float", 1e-3, 1e4, log=True),
        "products_l2": ParamSpec("float", 1e-3, 1e4, log=True),
        "power": ParamSpec("float", 0.1, 2.0),
    }
    return Searched(space, _ridge_rmse)


SEARCHED: dict[str, Callable[[], Searched]] = {
    "bowl, 2 dimensions": functools.partial(bowl, 2),
    "bowl, 7 dimensions": functools.partial(bowl, 7),
    "ridge, diabetes table": ridge,
}


# After how many steps `descent` says how good the model is.
REPORTED = (2, 4, 8, 16, 32)
DESCENT = {
    "rate": ParamSpec("float", 1e-3, 0.4, log=True),
    "momentum": ParamSpec("float", 0.0, 0.95),
    "l2": ParamSpec("float", 1e-3, 1e3, log=True),
}


def descent(params: Mapping[str, Any]) -> list[float]:
    """Learning curve of linear regression by gradient descent with momentum, on the diabetes table's ten columns.

    Returns:
        Root mean squared errors on the first fold after `REPORTED` steps.
    """
    fold, curve = _folds()[0], list[float]()
    rows, mean = len(fold.train_target), fold.train_target.mean()
    gram = fold.gram[:10, :10] + params["l2"] * np.eye(10)
    right = fold.train[:, :10].T @ (fold.train_target - mean)
    weights, velocity = np.zeros(10), np.zeros(10)
    for step in range(1, REPORTED[-1] + 1):
        velocity = params["momentum"] * velocity - params["rate"] * (gram @ weights - right) / rows
        weights = weights + velocity
        if step in REPORTED:
            errors = fold.test[:, :10] @ weights + mean - fold.test_target
            curve.append(float(np.sqrt((errors**2).mean())))
    return curve


@dataclass(frozen=True)
class _Fold:
    """One fold: features (n, 65) and target (n,) of its rows, and of all other rows, with the latter's products."""

    test: Array
    test_target: Array
    train: Array
    train_target: Array
    gram: Array


@functools.cache
def _folds() -> list[_Fold]:
    from sklearn.datasets import load_diabetes

    columns, target = load_diabetes(return_X_y=True)
    first, second = np.triu_indices(columns.shape[1], 1)
    features = np.hstack([columns, columns**2, columns[:, first] * columns[:, second]])
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    rows = np.random.default_rng(0).permutation(len(target))
    folds = []
    for test in np.array_split(rows, FOLDS):
        train = np.setdiff1d(rows, test)
        x = features[train]
        folds.append(_Fold(features[test], target[test], x, target[train], x.T @ x))
    return folds


def _ridge_rmse(params: Mapping[str, Any]) -> float:
    size, power = TERMS[params["terms"]], params["power"]
    penalties = np.full(size, params["products_l2"])
    penalties[:10] = params["columns_l2"]
    squared = 0.0
    for fold in _folds():
        target = fold.train_target**power
        mean = target.mean()
        left, right = fold.gram[:size, :size] + np.diag(penalties), fold.train[:, :size].T @ (target - mean)
        weights = np.linalg.solve(left, right)
        shown = np.maximum(fold.test[:, :size] @ weights + mean, 0.0) ** (1 / power)
        squared += float(((shown - fold.test_target) ** 2).sum())
    return float(np.sqrt(squared / sum(len(fold.test_target) for fold in _folds())))
