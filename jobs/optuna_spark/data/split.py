"""Decides which rows are trained on and which are validated on: the same on every worker, device and platform.

The split depends only on the rows' content and the seed, not on the order of the rows: Spark may deliver them in
another order each time. Rows with equal features stay together, so that no validation row is also a training row.
Test rows are in neither part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from optuna_spark.data.dataset import Dataset, host
from optuna_spark.errors import DataError

Rows = npt.NDArray[np.intp]
Hashes = npt.NDArray[np.uint64]
DEFAULT_SEED = 0
_BLOCK = 1 << 16


class Part(NamedTuple):
    """Row numbers of one training and one validation set."""

    train: Rows
    validation: Rows


def split(dataset: Dataset, holdout: float, folds: int | None, seed: int | None) -> list[Part]:
    """Split a table once, for a hold-out, or into `folds` parts for cross-validation.

    Each part has about the same share of each class; groups of equal rows are not torn apart for that.

    Args:
        dataset: The table.
        holdout: Share of the rows to validate on. Not used with `folds`.
        folds: Number of parts. Each row is validated on in exactly one of them.
        seed: None means a fixed seed, because every worker must have the same split.

    Raises:
        DataError: There are too few distinct rows.
    """
    rows = dataset.training_rows
    groups, labels = row_hashes(dataset.features)[rows], dataset.labels.values[rows]
    keys = _shuffled(groups, DEFAULT_SEED if seed is None else seed)
    strata = labels if dataset.labels.classes else np.zeros(len(rows), np.float32)
    order, positions = _positions(keys, labels, strata)
    order = rows[order]
    if folds is None:
        return _checked([_part(order, positions < holdout)], f"holdout {holdout:g}")
    fold = np.minimum((positions * folds).astype(np.intp), folds - 1)
    return _checked([_part(order, fold == i) for i in range(folds)], f"folds {folds}")


def row_hashes(features: Any) -> Hashes:
    """One number per row, (n_rows,) uint64: equal for equal rows.

    If two different rows get the same number (about 1 pair in 2**64), they only stay together.

    Args:
        features: (n_rows, n_features) float32, NumPy or CuPy. Hashed on the CPU, so that both give the same numbers.
    """
    hashes = np.empty(features.shape[0], dtype=np.uint64)
    for start in range(0, len(hashes), _BLOCK):
        block = host(features[start : start + _BLOCK]) + np.float32(0)  # -0.0 becomes 0.0
        block[np.isnan(block)] = np.nan  # one bit pattern for every NaN
        hashes[start : start + _BLOCK] = _hash_block(block.view(np.uint32))
    return hashes


def _hash_block(bits: npt.NDArray[np.uint32]) -> Hashes:
    state = start_hash(bits.shape[0])
    for column in np.ascontiguousarray(bits.T):
        state = mixed(state ^ column)
    return state


def start_hash(n_rows: int) -> Hashes:
    """What the hashes of rows begin with: SplitMix64's increment (2**64 over the golden ratio), without a pattern."""
    return np.full(n_rows, 0x9E3779B97F4A7C15, dtype=np.uint64)


def mixed(state: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _shuffled(groups: Hashes, seed: int) -> Hashes:
    """A pseudo-random number for each row, equal for rows of one group.

    It uses PCG64's raw stream, which is the same in every NumPy version. Generator's methods may change (NEP 19).
    """
    return mixed(groups ^ np.random.PCG64(seed).random_raw(1)[0])


def _positions(keys: Hashes, labels: Any, strata: Any) -> tuple[Rows, npt.NDArray[np.float64]]:
    """The rows in shuffled order, and the place of each row's group within its class, from 0 to 1.

    A part of the rows is then those whose place lies in an interval. A group that holds several classes counts as the
    smallest of them.
    """
    order = np.lexsort((labels, keys))
    starts = np.flatnonzero(np.concatenate(([True], np.diff(keys[order]) != 0)))
    sizes = np.diff(np.append(starts, len(order)))
    stratum = strata[order][starts]
    middle = np.empty(len(starts))
    for value in np.unique(stratum):
        chosen = stratum == value
        size = sizes[chosen]
        middle[chosen] = (np.cumsum(size) - size / 2) / size.sum()
    return order, np.repeat(middle, sizes)


def _part(order: Rows, validation: npt.NDArray[np.bool_]) -> Part:
    return Part(order[~validation], order[validation])


def _checked(parts: list[Part], rule: str) -> list[Part]:
    if any(len(part.train) == 0 or len(part.validation) == 0 for part in parts):
        raise DataError(f"the table has too few distinct rows for {rule}: use fewer folds or more data")
    return parts
