"""Categories that only validation rows have. They count as missing there.

XGBoost has two rules of its own for them: a matrix that shares the cuts of the training matrix takes a code above the
last one for the last one, and a plain matrix sends them to the side of the categories that a split does not name. As
missing values they have one score with both, and so has a model that is given the training rows' categories only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optuna_spark.data.dataset import Dataset, host
from optuna_spark.data.split import Part, Rows

MOST = 20


def unseen_cells(dataset: Dataset, part: Part) -> Rows:
    """The cells of a part's validation rows whose category no training row of it has.

    Returns:
        (n_cells, 2) intp: the place among the validation rows, and the index of the feature.
    """
    cells = [np.empty((0, 2), np.intp)]
    for index, name in enumerate(dataset.names):
        if name in dataset.categories:
            places = _unseen(host(dataset.features[:, index]), len(dataset.categories[name]), part)
            cells.append(np.column_stack((places, np.full(len(places), index))))
    return np.concatenate(cells)


def _unseen(column: Any, n_categories: int, part: Part) -> Rows:
    codes = np.where(np.isnan(column), n_categories, column).astype(np.intp)
    seen = np.zeros(n_categories + 1, np.bool_)
    seen[codes[part.train]] = True
    seen[n_categories] = True  # a missing value is no category
    return np.flatnonzero(~seen[codes[part.validation]])


def without_cells(features: Any, cells: Rows, start: int = 0) -> Any:
    """Rows with NaN in some cells, changed in place.

    Args:
        features: (n_rows, n_features) float32, NumPy or CuPy.
        cells: As of unseen_cells; those of other rows are passed over.
        start: The place of the first row among those that `cells` counts.
    """
    inside = cells[(cells[:, 0] >= start) & (cells[:, 0] < start + len(features))]
    if len(inside):
        features[inside[:, 0] - start, inside[:, 1]] = np.nan
    return features


def rows_by_feature(dataset: Dataset, cells: list[Rows], names: bool) -> dict[str, int]:
    """How many validation rows, of all parts together, have such a category, by feature.

    The MOST features with the most such rows: a trial's attribute has only so much room.

    Args:
        dataset: The table.
        cells: Of each part.
        names: Whether a feature is called by its name, or by its number among the features, from 1.
    """
    counts = np.bincount(np.concatenate(cells)[:, 1], minlength=len(dataset.names))
    most = [i for i in np.argsort(-counts, kind="stable")[:MOST] if counts[i]]
    return {dataset.names[i] if names else f"feature {i + 1}": int(counts[i]) for i in most}
