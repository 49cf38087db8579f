"""Which rows train and which validate: by group, time and column, the same as scikit-learn where it has a rule."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.model_selection import PredefinedSplit, TimeSeriesSplit, train_test_split

from optuna_spark.data.dataset import Dataset
from optuna_spark.data.load import from_table
from optuna_spark.data.split import Part
from optuna_spark.data.splits.parts import parts_of
from optuna_spark.device import Device
from optuna_spark.errors import DataError
from optuna_spark.spec.data import ColumnsSpec, DataSpec
from optuna_spark.spec.table import table_spec
from optuna_spark.spec.validation import ValidationSpec

CPU = Device("cpu", None, 1)
N = 240


def table(**columns: Any) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({"a": rng.random(N), "b": rng.random(N), **columns, "y": rng.integers(0, 3, N)})


def loaded(rows: pa.Table, validation: ValidationSpec, task: str = "regression", **data: Any) -> Dataset:
    return from_table(rows, table_spec(DataSpec("t.parquet", **data), validation), task, None, CPU)


def parts(rows: pa.Table, task: str = "regression", data: Any = (), **validation: Any) -> list[Part]:
    rule = ValidationSpec(**validation)
    return parts_of(loaded(rows, rule, task, **dict(data)), rule, 1)


def as_sets(found: Any) -> list[tuple[set[int], set[int]]]:
    return [({*map(int, train)}, {*map(int, validation)}) for train, validation in found]


GROUPS = np.random.default_rng(1).integers(0, 30, N)


@pytest.mark.parametrize("task", ["regression", "multiclass"])
@pytest.mark.parametrize("rule", [{}, {"holdout": 0.4}, {"folds": 5}, {"folds": 5, "stratify": False}])
def test_no_group_is_on_both_sides(task: str, rule: dict[str, Any]) -> None:
    if task == "regression":
        rule = {key: value for key, value in rule.items() if key != "stratify"}
    found = parts(table(patient=[f"p{group}" for group in GROUPS]), task, group="patient", **rule)
    assert len(found) == rule.get("folds", 1)
    for part in found:
        assert len(part.train) + len(part.validation) == N
        assert not {*GROUPS[part.train]} & {*GROUPS[part.validation]}
        assert abs(len(part.validation) / N - (rule.get("holdout", 0.2))) < 0.1


def test_each_group_validates_in_one_fold() -> None:
    found = parts(table(patient=GROUPS), group="patient", folds=4)
    assert sorted(row for part in found for row in part.validation) == list(range(N))


def test_the_groups_alone_decide_whatever_the_order_of_the_rows_and_the_type_of_the_column() -> None:
    rows, shuffle = table(patient=GROUPS), np.random.default_rng(2).permutation(N)
    found, other = (parts(t, group="patient", folds=4) for t in (rows, rows.take(shuffle)))
    for one, two in zip(found, other, strict=True):
        np.testing.assert_array_equal(rows["a"].to_numpy()[one.train], rows["a"].to_numpy()[shuffle][two.train])
    coded = rows.set_column(2, "patient", pa.array(map(str, GROUPS)).dictionary_encode())
    assert as_sets(parts(coded, group="patient", folds=4)) == as_sets(found)


def test_pure_groups_are_spread_evenly_over_classes() -> None:
    groups = np.arange(N) // 4
    classes = (groups % 6 == 0).astype(int)  # a class for a whole group, one in six
    rows = table(patient=groups).set_column(3, "y", pa.array(classes))
    for stratify, spread in ((None, {8}), (True, {8})):
        counts = {
            int(classes[part.validation].sum())
            for part in parts(rows, "binary", group="patient", folds=5, stratify=stratify)
        }
        assert counts == spread
    uneven = {
        int(classes[part.validation].sum()) for part in parts(rows, "binary", group="patient", folds=5, stratify=False)
    }
    assert uneven != {8}


def test_without_stratify_classes_fall_where_they_fall() -> None:
    rows = table()
    shares = [np.bincount(rows["y"].to_numpy()[p.validation]) for p in parts(rows, "multiclass", folds=4)]
    loose = [
        np.bincount(rows["y"].to_numpy()[p.validation]) for p in parts(rows, "multiclass", folds=4, stratify=False)
    ]
    assert np.ptp(shares, axis=0).max() <= 1 < np.ptp(loose, axis=0).max()


def test_the_split_has_a_seed_of_its_own() -> None:
    rows = table()
    assert as_sets(parts(rows)) == as_sets(parts(rows, seed=1)) != as_sets(parts(rows, seed=2))


TIMES = np.random.default_rng(3).permutation(N)
START = datetime.datetime(2024, 1, 31, 12)
KINDS = {
    "numbers": TIMES,
    "floats": TIMES / 7 - 3,
    "dates": [START.date() + datetime.timedelta(int(day)) for day in TIMES],
    "instants": [START + datetime.timedelta(minutes=int(minute)) for minute in TIMES],
    "nanoseconds": pa.array(TIMES, pa.timestamp("ns", "UTC")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_time_divides_as_scikit_learn_does(kind: str) -> None:
    rows, order = table(when=KINDS[kind]), np.argsort(TIMES)
    windows = [(order[train], order[test]) for train, test in TimeSeriesSplit(5).split(order)]
    assert as_sets(parts(rows, time="when", folds=5)) == as_sets(windows)
    for holdout in (0.2, 0.33):
        assert as_sets(parts(rows, time="when", holdout=holdout)) == as_sets(
            [train_test_split(order, test_size=holdout, shuffle=False)]
        )


def test_rows_of_one_time_are_on_one_side() -> None:
    weeks = TIMES // 7
    for part in (*parts(table(week=weeks), time="week"), *parts(table(week=weeks), time="week", folds=4)):
        assert weeks[part.train].max() < weeks[part.validation].min()


SIDES = np.where(TIMES % 3 == 0, "validation", "train")
FOLDS = TIMES % 5 * 10 - 10  # -10 is below all, so moved to -1
FOLDS[FOLDS == -10] = -1


@pytest.mark.parametrize(
    "text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_a_column_says_the_side(text: pa.DataType) -> None:
    found = parts(table(side=pa.array(SIDES.tolist(), pa.string()).cast(text)), split="side")
    assert as_sets(found) == [({*np.flatnonzero(SIDES == "train")}, {*np.flatnonzero(SIDES == "validation")})]


def test_a_column_says_the_fold_as_for_scikit_learn() -> None:
    assert as_sets(parts(table(fold=FOLDS), split="fold")) == as_sets(PredefinedSplit(FOLDS).split())
    all_validate = TIMES % 3
    assert as_sets(parts(table(fold=all_validate), split="fold")) == as_sets(PredefinedSplit(all_validate).split())


def test_columns_that_say_something_of_rows_are_no_features_unless_kept_by_name() -> None:
    rows, rule = table(patient=GROUPS, w=np.ones(N)), ValidationSpec(group="patient")
    assert loaded(rows, rule, weight="w").names == ("a", "b")
    assert loaded(rows, ValidationSpec()).names == ("a", "b", "patient", "w")
    assert loaded(rows, rule, weight="w", columns=ColumnsSpec(keep=("a", "patient", "w"))).names == (
        "a",
        "b",
        "patient",
        "w",
    )


@pytest.mark.parametrize(
    ("column", "rule", "sentence"),
    [
        (None, "group", "validation.group 'x' names no column; the table t.parquet has: a, b, y"),
        ([None, *range(1, N)], "group", r"validation.group: column 'x' .* in every row, got 1 empty or NaN"),
        ([0] * 100 + [*range(1, 141)], "group 5", r"'x' .* a group of 100 rows, more than a fold of 48"),
        ([0] * 100 + [*range(1, 141)], "group 5", "set validation.folds to at most 2"),
        ([0] * 200 + [*range(40)], "group 5", "use validation.holdout, or another column"),
        ([0, 1] * 120, "group 3", "at least as many groups as validation.folds, 3, got 2"),
        ([0] * N, "group", "validation.group: column 'x' of t.parquet has too few groups"),
        ([[1]] * N, "group", "validation.group: column 'x' of t.parquet holds values of type list"),
        (["1.2.2024"] * N, "time", "'x' of t.parquet must hold times or numbers to sort by, got values of type string"),
        ([*map(float, range(1, N)), float("nan")], "time", "in every row, got 1 empty or NaN .first in row 240"),
        ([1] * N, "time", "validation.time: column 'x' .* too few different times for holdout 0.2, 1 in 240"),
        ([1, 2] * 120, "time 3", "too few different times for folds 3, 2 in 240 rows"),
        (["train"] * N, "split", "validation.split: column 'x' of t.parquet has no validation rows"),
        (["validation"] * N, "split", "has no train rows: write train, -1"),
        ([-1] * N, "split", "has no validation rows"),
        ([7] * N, "split", "has no train rows"),
        (["train", "test"] * 120, "split", "train or validation, or numbers of folds, got another text in row 2"),
        ([-2] * N, "split", "must hold numbers of folds from 0 to 999, or -1"),
        ([0.5] * N, "split", "whole numbers of folds, got values of type double: convert it"),
    ],
)
def test_what_cannot_be_is_one_sentence(column: list[Any] | None, rule: str, sentence: str) -> None:
    kind, _, folds = rule.partition(" ")
    validation: dict[str, Any] = {kind: "x"} | ({"folds": int(folds)} if folds else {})
    with pytest.raises(DataError, match=sentence) as raised:
        parts(table(**({} if column is None else {"x": column})), **validation)
    assert "1.2.2024" not in str(raised.value)
    assert "'test'" not in str(raised.value)


@pytest.mark.parametrize(
    "rule", [{}, {"group": "g"}, {"group": "g", "folds": 3}, {"time": "t"}, {"time": "t", "folds": 3}, {"split": "s"}]
)
def test_no_test_row_is_on_any_side(rule: dict[str, Any]) -> None:
    rows = table(g=GROUPS, t=TIMES, s=SIDES.tolist())
    validation = ValidationSpec(**rule)
    dataset = loaded(rows, validation, test=0.3)
    for part in parts_of(dataset, validation, 1):
        assert not {*dataset.test_rows} & {*part.train, *part.validation}
    if "folds" not in rule:
        assert len(part.train) + len(part.validation) == len(dataset.training_rows)
