"""Quantised training and validation matrices, kept between trials and tasks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from xgboost import DataIter
from xgboost import QuantileDMatrix as Matrix

from optuna_spark.data.cache import LruCache
from optuna_spark.data.dataset import Dataset
from optuna_spark.data.split import Part, Rows
from optuna_spark.data.splits.parts import parts_of
from optuna_spark.data.splits.weights import Weights, row_weights, training_weights
from optuna_spark.device import Device
from optuna_spark.objectives.xgboost.unseen import unseen_cells, without_cells
from optuna_spark.spec.validation import ValidationSpec

# The default search space has four values of max_bin.
KEPT = 4
SMALL = 256 << 20  # bytes that all kept matrices may always take
BLOCK_ROWS = 1 << 15


class Fold(NamedTuple):
    """A training matrix and the validation matrix that shares its cuts."""

    train: Matrix
    validation: Matrix


@dataclass(frozen=True)
class Rule:
    """How the matrices are made of the table.

    Attributes:
        validation: Which rows train, and which validate.
        seed: Of the study.
        balance_classes: Whether each class weighs the same in training.
    """

    validation: ValidationSpec
    seed: int | None
    balance_classes: bool


class Matrices:
    """The folds of one split of one table, quantised once per `max_bin`. Thread-safe."""

    def __init__(self, dataset: Dataset, parts: list[Part], device: Device, *, balance_classes: bool = False) -> None:
        self.dataset = dataset
        self._balance_classes = balance_classes
        self.parts = parts
        self.unseen = [unseen_cells(dataset, part) for part in parts]
        self._device = device
        self._folds: LruCache[list[Fold]] = LruCache(sets_to_keep(dataset.features.nbytes, len(parts)))

    def folds(self, max_bin: int) -> list[Fold]:
        """One per part of the split."""
        return self._folds.get(
            max_bin, lambda: [self._fold(*each, max_bin) for each in zip(self.parts, self.unseen, strict=True)]
        )

    def clear(self) -> None:
        """Drop every matrix, for instance after an out-of-memory error."""
        self._folds.clear()

    def _fold(self, part: Part, unseen: Rows, max_bin: int) -> Fold:
        with on_device(self.dataset.features, self._device):
            weights = training_weights(self.dataset, part.train, balance_classes=self._balance_classes)
            judged = row_weights(self.dataset, part.validation)
            train = self._matrix(part.train, weights, unseen[:0], max_bin, None)
            return Fold(train, self._matrix(part.validation, judged, unseen, max_bin, train))

    def _matrix(
        self, rows: Rows, weights: Weights | None, blanks: Rows, max_bin: int, cuts_of: Matrix | None
    ) -> Matrix:
        return quantised(self.dataset, rows, max_bin, self._device, cuts_of, blanks, weights)


def quantised(
    dataset: Dataset,
    rows: Rows,
    max_bin: int,
    device: Device,
    cuts_of: Matrix | None = None,
    blanks: Rows | None = None,
    weights: Weights | None = None,
) -> Matrix:
    """The matrix of some rows. The caller makes the device current.

    Args:
        dataset: The table.
        rows: Their numbers.
        max_bin: How many bins a feature has at most.
        device: Where the matrix is used.
        cuts_of: The matrix whose cuts it takes; None: it makes its own.
        blanks: Cells that count as missing, as of unseen_cells.
        weights: (len(rows),), what each row weighs; None: all the same.
    """
    types, blanks = dataset.feature_types, np.empty((0, 2), np.intp) if blanks is None else blanks
    options = {"max_bin": max_bin, "ref": cuts_of, "nthread": device.threads, "enable_categorical": types is not None}
    if device.kind == "cpu":
        return Matrix(_Blocks(dataset, rows, blanks, weights), **options)
    features = without_cells(dataset.features[rows], blanks)
    return Matrix(features, label=dataset.labels.values[rows], weight=weights, feature_types=types, **options)


class _Blocks(DataIter):
    """Some rows of a table, a block at a time: all at once would be a second copy of the table.

    XGBoost makes the same cuts of them, however many blocks there are.
    """

    def __init__(self, dataset: Dataset, rows: Rows, blanks: Rows, weights: Weights | None) -> None:
        super().__init__(release_data=True)
        self._dataset, self._rows, self._blanks, self._weights, self._done = dataset, rows, blanks, weights, 0

    def next(self, input_data: Callable[..., None]) -> bool:
        rows = self._rows[self._done : self._done + BLOCK_ROWS]
        if len(rows) == 0:
            return False
        weights = None if self._weights is None else self._weights[self._done : self._done + BLOCK_ROWS]
        input_data(
            data=without_cells(self._dataset.features[rows], self._blanks, self._done),
            label=self._dataset.labels.values[rows],
            weight=weights,
            feature_types=self._dataset.feature_types,
        )
        self._done += len(rows)
        return True

    def reset(self) -> None:
        self._done = 0


def sets_to_keep(table_bytes: int, n_parts: int) -> int:
    """For how many values of `max_bin` the matrices are kept: as many as fit into twice the table's memory.

    Each of `n_parts` folds holds all rows once, at up to two bytes a value.
    """
    room = max(SMALL, 2 * table_bytes)
    return max(1, min(KEPT, room * 2 // (table_bytes * n_parts)))


def on_device(features: Any, device: Device) -> AbstractContextManager[Any]:
    """Make the GPU current while CuPy arrays are used; nothing for NumPy."""
    if type(features).__module__.partition(".")[0] != "cupy":
        return nullcontext()
    import cupy

    return cupy.cuda.Device(device.index)  # type: ignore[no-any-return]  # CuPy has no types


_matrices: LruCache[Matrices] = LruCache(1)


def matrices_for(dataset: Dataset, device: Device, rule: Rule) -> Matrices:
    """The matrices of a split, kept for the tasks that this Python process runs later.

    Raises:
        DataError: The rows cannot be divided so.
    """
    key = (dataset.key, device, rule)
    return _matrices.get(
        key,
        lambda: Matrices(
            dataset, parts_of(dataset, rule.validation, rule.seed), device, balance_classes=rule.balance_classes
        ),
    )
