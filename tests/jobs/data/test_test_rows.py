"""Test rows: no trial sees them, and a row's content alone says whether it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.csv
import pytest

from optuna_spark.data.dataset import Dataset
from optuna_spark.data.load import from_table, load_dataset
from optuna_spark.data.matrix import to_matrix
from optuna_spark.data.split import row_hashes, split
from optuna_spark.data.test_rows import both_parts, by_share, table_hashes
from optuna_spark.device import Device
from optuna_spark.errors import DataError, SpecError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective
from optuna_spark.spec.data import DataSpec, TestColumn
from optuna_spark.spec.decode import from_dict
from optuna_spark.spec.tuning import TuningSpec

N = 2000


def numbers(n: int = N) -> pa.Table:
    rng = np.random.default_rng(1)
    return pa.table({"a": rng.random(n), "b": rng.integers(0, 50, n), "y": rng.random(n)})


def spec(test: Any = 0.2, **more: Any) -> DataSpec:
    return DataSpec("/data/a.csv", test=test, **more)


def dataset_of(table: pa.Table, data: DataSpec) -> Dataset:
    return from_table(table, data, "regression", None, Device("cpu", None, 1))


def rows(table: pa.Table, columns: tuple[str, ...] = ("a", "b")) -> set[tuple[Any, ...]]:
    return {tuple(row[c] for c in columns) for row in table.to_pylist()}


def test_a_share_keeps_about_that_share_back() -> None:
    train, test = both_parts(numbers(), spec())
    assert test is not None
    assert train.num_rows + test.num_rows == N
    assert 0.17 * N < test.num_rows < 0.23 * N
    assert not rows(train) & rows(test)


def test_a_test_row_stays_one_in_another_order_and_in_a_table_that_grew() -> None:
    table = numbers()
    _, before = both_parts(table.slice(0, N // 2), spec())
    _, after = both_parts(table.take(np.random.default_rng(0).permutation(N)), spec())
    assert before is not None
    assert after is not None
    assert rows(before) == rows(after) & rows(table.slice(0, N // 2))


def test_a_greater_share_has_all_test_rows_of_a_smaller_one() -> None:
    (_, few), (_, many) = both_parts(numbers(), spec(0.1)), both_parts(numbers(), spec(0.3))
    assert few is not None
    assert many is not None
    assert rows(few) < rows(many)


@pytest.mark.parametrize("seed", [None, 0, 1, 7])
@pytest.mark.parametrize("folds", [None, 5])
def test_no_part_of_a_split_has_a_test_row(seed: int | None, folds: int | None) -> None:
    dataset = dataset_of(numbers(), spec())
    test = set(dataset.test_rows.tolist())
    assert len(test) > 0.17 * N
    parts = split(dataset, 0.2, folds, seed)
    for part in parts:
        assert not test & {*part.train.tolist(), *part.validation.tolist()}
        assert len(part.train) + len(part.validation) == N - len(test)


def test_validation_rows_are_not_chosen_like_test_rows() -> None:
    dataset = dataset_of(numbers(), spec())
    chosen = [split(dataset, 0.2, None, seed)[0].validation for seed in range(5)]
    assert {len(rows) for rows in chosen} == {round(0.2 * len(dataset.training_rows))}


def test_the_built_in_objective_and_ones_own_have_the_same_test_rows() -> None:
    table = numbers()
    dataset = dataset_of(table, spec())
    _, test = both_parts(table, spec())
    assert test is not None
    assert np.array_equal(dataset.features[dataset.test_rows][:, 0], test["a"].to_numpy().astype(np.float32))


def test_numbers_have_the_same_hash_in_a_table_and_in_a_matrix() -> None:
    nan = float("nan")
    table = pa.table(
        {
            "f": [0.0, -0.0, nan, None, 2.5],
            "i": pa.array([1, 2, None, 4, 5], pa.int64()),
            "b": [True, False, None, True, True],
        }
    )
    matrix = to_matrix(table, {name: name for name in table.column_names})
    assert table_hashes(table, table.column_names).tolist() == row_hashes(matrix).tolist()


@pytest.mark.parametrize(
    "other",
    [
        {"i": pa.int32()},
        {"t": pa.large_string()},
        {"t": pa.dictionary(pa.int32(), pa.string())},
        {"when": pa.timestamp("ns")},
        {"when": pa.timestamp("s")},
    ],
)
def test_the_hash_is_of_values_not_of_their_type(other: dict[str, pa.DataType]) -> None:
    csv = b"i,t,when\n1,a,2024-01-01 00:00:00\n2,b,2024-01-02 10:00:00\n3,,2024-01-03 00:00:00\n"
    table = pa.csv.read_csv(pa.BufferReader(csv), convert_options=pa.csv.ConvertOptions(strings_can_be_null=True))
    cast = table
    for name, kind in other.items():
        cast = cast.set_column(cast.schema.get_field_index(name), name, cast[name].cast(kind))
    assert table_hashes(cast, cast.column_names).tolist() == table_hashes(table, table.column_names).tolist()
    assert len(set(table_hashes(table, ["t"]).tolist())) == 3


def test_a_missing_text_is_not_an_empty_one() -> None:
    assert len(set(table_hashes(pa.table({"t": ["", None, "None"]}), ["t"]).tolist())) == 3


def test_the_share_is_of_all_contents() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    assert by_share(hashes, 0.3).mean() == pytest.approx(0.3, abs=0.01)


def test_a_column_names_the_test_rows_and_is_no_feature() -> None:
    held = pa.array(np.arange(N) % 4 == 0)
    table = numbers().add_column(0, "held", held)
    for kind in (pa.bool_(), pa.int8()):
        cast = table.set_column(0, "held", held.cast(kind))
        data = spec(TestColumn("held"))
        dataset = dataset_of(cast, data)
        assert dataset.names == ("a", "b")
        assert dataset.test_rows.tolist() == list(range(0, N, 4))
        train, test = both_parts(cast, data)
        assert test is not None
        assert (train.column_names, test.num_rows) == (["a", "b", "y"], N // 4)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("held", ["yes", "no", "no", "no"], "must hold true or false"),
        ("held", [1, 0, 2, 0], "must hold true or false"),
        ("held", [True, None, False, False], "must hold true or false"),
        ("held", [True] * 4, "no row to train on"),
        ("held", [False] * 4, "no test row"),
        ("hold", [True, False, False, True], "'hold' is no column of the table"),
        ("y", [True, False, False, True], "'y' is the label"),
    ],
)
def test_a_column_that_cannot_be_used_is_told(column: str, values: list[Any], said: str) -> None:
    table = pa.table({"held": values, "a": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 2.0, 3.0, 4.0]})
    for read in (both_parts, dataset_of):
        with pytest.raises(DataError, match=said):
            read(table, spec(TestColumn(column), label="y"))


def test_a_share_that_leaves_nothing_is_told() -> None:
    with pytest.raises(DataError, match=r"data.test 0\.2 leaves no test row of 4 rows: give another share"):
        both_parts(pa.table({"a": [1.0] * 4, "y": [1.0] * 4}), spec())


def test_a_list_cannot_be_hashed_and_says_what_to_do() -> None:
    table = pa.table({"a": [[1], [2], [3], [4]], "y": [1, 2, 3, 4]})
    with pytest.raises(DataError, match=r"got type list in feature 1: name a column"):
        both_parts(table, spec())


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (1, r"test must be between 0 and 1"),
        (0.0, r"test must be between 0 and 1"),
        (True, r"data.test: must be float or a mapping with column, got bool True"),
        ({"colum": "a"}, r"unknown key 'colum' \(did you mean 'column'"),
        ({}, r"data.test.column: is required"),
    ],
)
def test_a_wrong_key_is_told(test: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        from_dict(DataSpec, {"path": "/data/a.csv", "test": test}, "data")


def test_a_table_without_test_rows_is_split_as_before(tmp_path: Path) -> None:
    dataset = dataset_of(numbers(50), DataSpec(str(tmp_path)))
    assert dataset.test is None
    (part,) = split(dataset, 0.2, None, 1)
    assert sorted([*part.train, *part.validation]) == list(range(50))


def test_the_column_stays_whatever_columns_are_chosen_and_is_no_default_label(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, 2, 3, 4], "b": [1.0, 2, 3, 4], "y": [1.0, 2, 3, 4], "held": [1, 0, 0, 0]})
    pa.csv.write_csv(table, tmp_path / "t.csv")
    for columns in ({"keep": ["a"]}, {"drop": ["b", "h*"]}, {}):
        given = {"path": str(tmp_path / "t.csv"), "test": {"column": "held"}, "columns": columns}
        dataset = load_dataset(from_dict(DataSpec, given), "regression", Device("cpu", None, 1))
        assert dataset.names == (("a",) if columns else ("a", "b"))
        assert dataset.test_rows.tolist() == [0]


def test_a_row_with_a_category_stays_a_test_row_when_the_table_grows_by_another_category() -> None:
    few, many = np.array(["b", "c", None], object), np.array(["a", "b", "c", "d", None], object)
    rng = np.random.default_rng(2)
    table = pa.table({"a": rng.random(N), "kind": few[rng.integers(0, 3, N)], "y": rng.random(N)})
    more = pa.table({"a": rng.random(N), "kind": many[rng.integers(0, 5, N)], "y": rng.random(N)})
    before, after = dataset_of(table, spec()), dataset_of(pa.concat_tables([table, more]), spec())
    assert len(after.categories["kind"]) > len(before.categories["kind"])
    assert before.test is not None
    assert after.test is not None
    assert before.test.any()
    assert np.array_equal(before.test, after.test[:N])
    _, kept = both_parts(table, spec())  # what an objective of one's own keeps back
    assert kept is not None
    assert kept.num_rows == before.test.sum()


def test_ones_own_objective_gets_what_spark_has_read_without_the_test_rows() -> None:
    table = pa.table({"a": [1.0, 2, 3, 4, 5], "y": [1.0, 2, 3, 4, 5], "held": [1, 0, 0, 0, 0]})
    spec = TuningSpec(
        "s",
        objective="sample_objectives:table_content",
        data=DataSpec("/data/t.parquet", test=TestColumn("held")),
        distribution="dataframe",
    )
    trial = optuna.create_study().ask()
    build_objective(ObjectiveContext(spec, Device("cpu", None, 1), table))(trial)
    assert trial.user_attrs["table"] == {"a": [2, 3, 4, 5], "y": [2, 3, 4, 5]}
    assert trial.user_attrs["spark_read_it"]
