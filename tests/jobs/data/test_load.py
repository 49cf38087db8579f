"""Reading training tables: what is accepted, and one clear sentence for each thing that is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from init.local.layout import REPOSITORY
from optuna_spark.data import matrix as numeric
from optuna_spark.data.dataset import Dataset
from optuna_spark.data.load import forget_datasets, load_dataset
from optuna_spark.device import Device
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec

CPU = Device("cpu", None, 1)
WINE = REPOSITORY.parent / "shared" / "data" / "winequality-red.csv"


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    forget_datasets()


def load(path: str | Path, task: str = "regression", **spec: object) -> Dataset:
    return load_dataset(DataSpec(str(path), **spec), task, CPU)  # type: ignore[arg-type]


def written(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


GOOD = "a,b,y\n1,2,10\n3,4,20\n5,,30\n7,8,40\n"


def test_a_csv_becomes_float32_features_and_labels(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, GOOD))
    assert dataset.features.dtype == np.float32
    assert dataset.features.flags.c_contiguous
    np.testing.assert_array_equal(dataset.features, [[1, 2], [3, 4], [5, np.nan], [7, 8]])
    np.testing.assert_array_equal(dataset.labels.values, [10, 20, 30, 40])
    assert dataset.names == ("a", "b")


def test_the_separator_and_the_label_are_the_ones_given(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, GOOD.replace(",", "|")), separator="|", label="a")
    np.testing.assert_array_equal(dataset.labels.values, [1, 3, 5, 7])
    assert dataset.names == ("b", "y")


def test_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    from_csv = load(written(tmp_path, GOOD))
    columns = {"a": [1, 3, 5, 7], "b": [2.0, 4.0, None, 8.0], "y": [10, 20, 30, 40]}
    pa.parquet.write_table(pa.table(columns), tmp_path / "table.parquet")
    from_parquet = load(tmp_path / "table.parquet")
    np.testing.assert_array_equal(from_parquet.features, from_csv.features)


@pytest.fixture
def one_column_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numeric, "_GROUP_BYTES", 1)


@pytest.mark.usefixtures("one_column_at_a_time")
def test_columns_read_one_by_one_are_those_of_the_whole_table(tmp_path: Path) -> None:
    columns = {"a.b": [1, 3, 5, 7], "y": [10, 20, 30, 40], "b": [2.0, 4.0, None, 8.0], "c": [True, False, None, True]}
    table = pa.table(columns)
    pa.parquet.write_table(table.slice(0, 1), tmp_path / "0.parquet")
    pa.parquet.write_table(table.slice(1), tmp_path / "1.parquet")
    dataset = load(tmp_path, label="y")
    assert dataset.names == ("a.b", "b", "c")
    np.testing.assert_array_equal(dataset.features, [[1, 2, 1], [3, 4, 0], [5, np.nan, np.nan], [7, 8, 1]])
    np.testing.assert_array_equal(dataset.labels.values, columns["y"])


@pytest.mark.usefixtures("one_column_at_a_time")
def test_what_is_wrong_with_a_later_column_of_a_parquet_file_is_explained(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2, 3, 4], "b": ["1", "2", "many", "4"], "y": [1, 2, 3, 4]})
    pa.parquet.write_table(table, tmp_path / "table.parquet")
    with pytest.raises(DataError, match=r"column 'b' of .* must hold numbers, got a value of type string in row 3"):
        load(tmp_path / "table.parquet")


def test_whole_numbers_booleans_and_decimals_are_numbers(tmp_path: Path) -> None:
    import decimal

    table = pa.table(
        {
            "flag": [True, False, None, True],
            "price": pa.array([decimal.Decimal("1.5")] * 4),
            "empty": pa.nulls(4),
            "y": [1, 2, 3, 4],
        }
    )
    dataset = load_dataset(DataSpec("handed over"), "regression", CPU, table)
    np.testing.assert_array_equal(dataset.features[:, 0], [1, 0, np.nan, 1])
    np.testing.assert_array_equal(dataset.features[:, 1], [1.5] * 4)
    assert np.isnan(dataset.features[:, 2]).all()


@pytest.mark.parametrize("name", ["diabetes", "iris", "wine", "breast_cancer", "digits"])
def test_tables_bundled_with_scikit_learn_need_no_file(name: str) -> None:
    task = {"diabetes": "regression", "breast_cancer": "binary"}.get(name, "multiclass")
    dataset = load(f"sklearn:{name}", task)
    assert dataset.n_rows > 100
    assert "target" not in dataset.names


def test_the_wine_table_is_read_whole() -> None:
    if not WINE.exists():
        pytest.skip(f"no {WINE}")
    dataset = load(WINE, "multiclass", separator=";", label="quality")
    assert dataset.features.shape == (1599, 11)
    assert dataset.labels.classes == (3, 4, 5, 6, 7, 8)


def test_file_and_dbfs_schemes_are_local_paths(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    assert load(f"file:{path}").n_rows == load(f"file://{path}").n_rows == 4
    with pytest.raises(DataError, match=r"'/dbfs/nowhere.csv' does not exist"):
        load("dbfs:/nowhere.csv")


def test_a_table_is_loaded_once_until_its_file_changes(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    first = load(path)
    assert load(path) is first
    written(tmp_path, GOOD + "9,9,50\n")
    os.utime(path, ns=(1, 1))
    assert load(path).n_rows == 5


def test_a_table_handed_over_twice_is_converted_once() -> None:
    rows = {"a": [1.0, 2, 3, 4], "y": [1, 2, 3, 4]}
    first = load_dataset(DataSpec("t"), "regression", CPU, pa.table(rows))
    assert load_dataset(DataSpec("t"), "regression", CPU, pa.table(rows)) is first
    changed = pa.table(rows | {"y": [1, 2, 3, 5]})
    assert load_dataset(DataSpec("t"), "regression", CPU, changed) is not first


def test_classes_are_numbered_in_sorted_order(tmp_path: Path) -> None:
    text = "a,y\n1,no\n2,yes\n3,no\n4,maybe\n"
    dataset = load(written(tmp_path, text), "multiclass")
    assert dataset.labels.classes == ("maybe", "no", "yes")
    np.testing.assert_array_equal(dataset.labels.values, [1, 2, 1, 0])


BAD_FILES = {
    "missing column": (GOOD, {"label": "z"}, r"data.label 'z' names no column; the table .*table.csv has: a, b, y"),
    "repeated column": (
        "a,y,y\n" + "1,2,3\n" * 4,
        {"label": "y"},
        r"columns must have different names, got 'y' twice in .*table.csv: rename one",
    ),
    "repeated feature": ("a,a,y\n" + "1,2,3\n" * 4, {}, r"columns must have different names, got 'a' twice"),
    "wrong separator": (
        GOOD,
        {"separator": ";"},
        r"got 1: if it is CSV .* not separated by ';', say by what in data.separator",
    ),
    "empty file": ("", {}, r"table.csv is empty: a table needs a first line with names"),
    "header only": ("a,b,y\n", {}, r"table.csv must have at least 4 rows, got 0"),
    "too few rows": ("a,y\n1,2\n", {}, r"table.csv must have at least 4 rows, got 1"),
    "text": (
        GOOD.replace("5,,", "5,oops,"),
        {},
        r"column 'b' .* must hold numbers, got a value of type string in row 3",
    ),
    "a date as the label": (
        "a,d\n1,2026-01-01\n" + "2,2026-01-02\n" * 3,
        {},
        r"column 'd' of .* must hold numbers, got a value of type date32.* in row 1 .date",
    ),
    "infinite": (GOOD.replace("5,,", "5,inf,"), {}, r"column 'b' of .* must hold finite numbers, got 1 infinite"),
    "too large": (GOOD.replace("5,,", "5,1e300,"), {}, r"column 'b' of .* must hold finite numbers, got 1 infinite"),
    "missing labels": (
        GOOD.replace("30", "nan").replace("40", ""),
        {},
        r"'y' of .* must hold a value in every row, got 2 empty or NaN \(first in row 3\)",
    ),
    "text label": (
        GOOD.replace("20", "many"),
        {},
        r"column 'y' of .* must hold numbers, got a value of type string in row 2",
    ),
    "infinite label": (GOOD.replace("20", "-inf"), {}, r"column 'y' of .* must hold finite numbers"),
    "ragged rows": ("a,y\n1,2\n1,2,3\n", {}, r"cannot read .* as csv: .*expected 2 columns, got 3"),
    "not parquet": (GOOD, {"format": "parquet"}, r"cannot read .* as parquet"),
    "digest": (GOOD, {"sha256": "0" * 64}, r"table.csv must have sha256 0{64}, got [0-9a-f]{64}"),
}


@pytest.mark.parametrize(("text", "spec", "sentence"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_table_is_explained(tmp_path: Path, text: str, spec: dict[str, str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        load(written(tmp_path, text), **spec)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_its_machine(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"'{tmp_path}/none.csv' does not exist on .*: put the file"):
        load(tmp_path / "none.csv")


def test_an_address_only_spark_reads_points_to_the_dataframe_distribution() -> None:
    with pytest.raises(DataError, match="use distribution dataframe"):
        load("hdfs://host/table.parquet")


def test_an_unknown_bundled_table_lists_the_known() -> None:
    with pytest.raises(DataError, match=r"sklearn:breast_cancer, sklearn:diabetes, .* got 'sklearn:boston'"):
        load("sklearn:boston")


BAD_CLASSES = {
    "one class": ("a,y\n" + "1,5\n" * 4, "binary", r"'y' of .* must hold at least 2 classes, got 1: check data.label"),
    "three for binary": (GOOD, "binary", r"'y' of .* must hold 2 classes for task binary, got 4: set"),
    "a number line": (
        "a,y\n" + "".join(f"1,{i}\n" for i in range(1001)),
        "multiclass",
        r"at most 1000 classes, got 1001: set xgboost.task to regression",
    ),
    "an empty class": ("a,y\n1,no\n2,\n3,yes\n4,no\n", "binary", r"got 1 empty or NaN \(first in row 2\)"),
}


@pytest.mark.parametrize(("text", "task", "sentence"), BAD_CLASSES.values(), ids=BAD_CLASSES.keys())
def test_labels_that_do_not_fit_the_task_are_explained(tmp_path: Path, text: str, task: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load(written(tmp_path, text), task)


def test_threads_that_ask_together_load_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = written(tmp_path, GOOD)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load(path), range(8)))
    assert all(dataset is loaded[0] for dataset in loaded)
