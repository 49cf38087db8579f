"""The split: the same everywhere, and no duplicate of a training row in the validation rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from optuna_spark.data.dataset import Dataset
from optuna_spark.data.labels import Labels
from optuna_spark.data.split import Part, split
from optuna_spark.errors import DataError
from tests.support.programs import run_python


def dataset(features: npt.ArrayLike, labels: npt.ArrayLike, n_classes: int = 0) -> Dataset:
    values = np.asarray(labels, np.float32)
    matrix = np.ascontiguousarray(features, dtype=np.float32)
    return Dataset(matrix, Labels(values, tuple(range(n_classes))), (), None)


def random_table(n_rows: int = 1000, n_classes: int = 0, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_rows) if n_classes else rng.random(n_rows)
    return dataset(rng.random((n_rows, 3)), labels, n_classes)


def rows_of(table: Dataset, part: Part) -> tuple[set[bytes], set[bytes]]:
    train, validation = ({row.tobytes() for row in table.features[rows]} for rows in part)
    return train, validation


def test_every_row_trains_or_validates() -> None:
    (part,) = split(random_table(), 0.2, None, 1)
    assert sorted([*part.train, *part.validation]) == list(range(1000))
    assert len(part.validation) == 200


def test_every_row_validates_in_one_fold() -> None:
    parts = split(random_table(), 0.2, 5, 1)
    assert Counter(int(row) for part in parts for row in part.validation) == Counter(range(1000))
    assert {len(part.validation) for part in parts} == {200}


def test_the_seed_decides_and_none_is_a_fixed_one() -> None:
    table = random_table()

    def first_rows(seed: int | None) -> list[int]:
        return [int(row) for row in split(table, 0.2, None, seed)[0].validation[:20]]

    assert first_rows(1) == first_rows(1) != first_rows(2)
    assert first_rows(None) == first_rows(None)


def test_another_process_makes_the_same_split() -> None:
    code = (
        "from optuna_spark.data.load import load_dataset; from optuna_spark.device import Device;"
        "from optuna_spark.spec.data import DataSpec; from optuna_spark.data.split import split;"
        "table = load_dataset(DataSpec('sklearn:diabetes'), 'regression', Device('cpu', None, 1));"
        "print(split(table, 0.2, None, 7)[0].validation[:10].tolist())"
    )
    outputs = {run_python(code).stdout for _ in range(2)}
    # The very rows, so that a change of NumPy or of the platform shows.
    assert outputs == {"[44, 334, 206, 383, 50, 380, 332, 234, 119, 415]\n"}


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = random_table()
    shuffle = np.random.default_rng(5).permutation(1000)
    shuffled = dataset(table.features[shuffle], table.labels.values[shuffle])
    for part, other in zip(split(table, 0.2, 4, 3), split(shuffled, 0.2, 4, 3), strict=True):
        np.testing.assert_array_equal(table.features[part.train], shuffled.features[other.train])
        np.testing.assert_array_equal(table.labels.values[part.validation], shuffled.labels.values[other.validation])


def test_duplicates_stay_together() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(0, 8, (2000, 2))  # 64 different rows
    table = dataset(features, rng.random(2000))
    for part in [*split(table, 0.2, None, 1), *split(table, 0.2, 5, 1)]:
        train, validation = rows_of(table, part)
        assert train
        assert validation
        assert not train & validation


def test_duplicates_with_missing_values_and_negative_zero_stay_together() -> None:
    quiet, other_nan = np.float32(np.nan), np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    rows = [[0.0, quiet], [-0.0, other_nan]] + [[i, i] for i in range(1, 9)]
    table = dataset(rows, np.arange(10))
    for seed in range(20):
        for part in split(table, 0.2, 3, seed):
            assert len({0, 1} & set(part.validation.tolist())) != 1


def test_classes_are_spread_evenly() -> None:
    table = dataset(np.random.default_rng(0).random((1000, 2)), np.arange(1000) % 10 == 0, 2)
    (part,) = split(table, 0.2, None, 1)
    assert table.labels.values[part.validation].sum() == 20
    for part in split(table, 0.2, 5, 1):
        assert table.labels.values[part.validation].sum() == 20


def test_equal_rows_of_several_classes_stay_together_too() -> None:
    rng = np.random.default_rng(0)
    table = dataset(rng.integers(0, 30, (600, 1)), rng.integers(0, 3, 600), 3)
    for part in split(table, 0.2, 4, 1):
        train, validation = rows_of(table, part)
        assert not train & validation


def test_too_few_distinct_rows_are_explained() -> None:
    same = dataset(np.ones((50, 2)), np.arange(50))
    with pytest.raises(DataError, match=r"too few distinct rows for holdout 0.2"):
        split(same, 0.2, None, 1)
    with pytest.raises(DataError, match=r"too few distinct rows for folds 20"):
        split(random_table(10), 0.2, 20, 1)
