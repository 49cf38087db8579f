"""A split by time: what is validated on lies after all that is trained on."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from optuna_spark.data.dataset import Dataset
from optuna_spark.data.split import Part, in_order, row_hashes
from optuna_spark.errors import DataError


def split_by_time(dataset: Dataset, holdout: float, folds: int | None) -> list[Part]:
    """The latest rows validate; with folds each window after the first, on all rows before it.

    Where no time stands twice, the parts are those of scikit-learn's train_test_split(shuffle=False) and
    TimeSeriesSplit. Rows of one time stay together: a boundary that would part them moves back before all of them.

    Args:
        dataset: The table, with its times.
        holdout: Share of the rows to validate on. Not used with `folds`.
        folds: Number of windows to validate on, all of one size; what is left over goes before the first.

    Raises:
        DataError: A side has no rows.
    """
    assert dataset.rows.times is not None  # the reader of the table found it
    order = in_order(dataset, dataset.rows.times, row_hashes(dataset.features))
    times, n_rows = dataset.rows.times[order], len(order)
    n_windows, size = (1, math.ceil(holdout * n_rows)) if folds is None else (folds, n_rows // (folds + 1))
    starts = [n_rows - size * (n_windows - i) for i in range(n_windows)] + [n_rows]
    starts = [int(np.searchsorted(times, times[start])) if start < n_rows else n_rows for start in starts]
    if starts[0] <= 0 or any(low >= high for low, high in pairwise(starts)):
        rule, instead = (
            (f"holdout {holdout:g}", "another holdout") if folds is None else (f"folds {folds}", "fewer folds")
        )
        n_times = len(np.unique(times))
        raise DataError(
            f"{dataset.rows.called('validation.time')} has too few different times for {rule}, {n_times} in"
            f" {n_rows} rows: a side would have no rows; use {instead} or more data"
        )
    return [Part(order[:low], order[low:high]) for low, high in pairwise(starts)]
