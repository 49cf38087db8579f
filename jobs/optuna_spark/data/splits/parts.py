"""The training and validation rows of a run: by chance, by group, by time, or as a column says."""

from __future__ import annotations

import numpy as np

from optuna_spark.data.dataset import Dataset
from optuna_spark.data.split import Part, split
from optuna_spark.data.splits.by_column import split_by_column
from optuna_spark.data.splits.by_time import split_by_time
from optuna_spark.errors import DataError
from optuna_spark.spec.validation import DEFAULT_HOLDOUT, ValidationSpec


def parts_of(dataset: Dataset, validation: ValidationSpec, seed: int | None) -> list[Part]:
    """The training and validation rows of each training of a trial: one, or one for each fold.

    Args:
        dataset: The table.
        validation: The rule.
        seed: Of the study; counts where the rule has none of its own.

    Raises:
        DataError: The table cannot be divided so.
    """
    holdout = DEFAULT_HOLDOUT if validation.holdout is None else validation.holdout
    if validation.split is not None:
        parts = split_by_column(dataset)
    elif validation.time is not None:
        parts = split_by_time(dataset, holdout, validation.folds)
    else:
        if dataset.rows.groups is not None and validation.folds is not None:
            _check_group_sizes(dataset, validation.folds)
        own = seed if validation.seed is None else validation.seed
        parts = split(dataset, holdout, validation.folds, own, stratify=validation.stratify)
    _check_weights(dataset, parts)
    return parts


def _check_group_sizes(dataset: Dataset, folds: int) -> None:
    assert dataset.rows.groups is not None  # the caller knows it
    _, sizes = np.unique(dataset.rows.groups[dataset.training_rows], return_counts=True)
    largest, n_rows = int(sizes.max()), int(sizes.sum())
    called = dataset.rows.called("validation.group")
    if len(sizes) < folds:
        raise DataError(
            f"{called} must have at least as many groups as validation.folds, {folds}, got {len(sizes)}: use fewer"
            " folds"
        )
    if largest * folds > n_rows:
        raise DataError(
            f"{called} has a group of {largest} rows, more than a fold of {n_rows // folds} ({n_rows} rows in {folds}"
            f" folds): set validation.folds to at most {n_rows // largest}"
            if n_rows // largest > 1
            else f"{called} has a group of {largest} of the {n_rows} rows, more than a fold can be: use"
            " validation.holdout, or another column"
        )


def _check_weights(dataset: Dataset, parts: list[Part]) -> None:
    """A side whose rows all count for nothing has no metric, or nothing to learn."""
    weights = dataset.rows.weights
    if weights is None:
        return
    for number, part in enumerate(parts, 1):
        for side, rows in (("train", part.train), ("validation", part.validation)):
            if not weights[rows].any():
                raise DataError(
                    f"{dataset.rows.called('data.weight')} is 0 in all {len(rows)} {side} rows of part {number}: give"
                    " some a weight, or divide the rows another way with validation"
                )
