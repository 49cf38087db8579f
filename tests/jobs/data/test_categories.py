"""Features that are texts, dates or named as categories: their codes and days, and what is refused."""

from __future__ import annotations

import datetime as dt
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optuna_spark.data.categories import FEW_TEXTS, MAX_TEXTS
from optuna_spark.data.dataset import Dataset
from optuna_spark.data.load import forget_datasets, load_dataset
from optuna_spark.data.split import row_hashes
from optuna_spark.device import Device
from optuna_spark.errors import DataError, SpecError
from optuna_spark.spec.data import DataSpec

CPU = Device("cpu", None, 1)
TOWNS = ["Ulm", "Bonn", None, "Ålesund", "Ulm", "bonn"]
CODES = [1, 0, np.nan, 3, 1, 2]
CATEGORIES = ("Bonn", "Ulm", "bonn", "Ålesund")


@pytest.fixture(autouse=True)
def _nothing_loaded() -> None:
    forget_datasets()


def load(columns: dict[str, Any] | pa.Table | Path, **keys: Any) -> Dataset:
    """A dataset of columns, with a label after them unless it is a file."""
    if isinstance(columns, Path):
        return load_dataset(DataSpec(str(columns), **keys), "regression", CPU)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    table = table.append_column("y", pa.array(range(table.num_rows)))
    return load_dataset(DataSpec("handed over", **keys), "regression", CPU, table)


def refused(columns: dict[str, Any], **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(columns, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_texts_become_codes_in_the_order_of_their_values() -> None:
    dataset = load({"n": range(6), "town": TOWNS})
    np.testing.assert_array_equal(dataset.features[:, 1], np.array(CODES, np.float32))
    assert dataset.categories == {"town": CATEGORIES}
    assert dataset.feature_types == ["q", "c"]


def in_two_pieces(first: pa.Array, second: pa.Array) -> pa.ChunkedArray:
    return pa.chunked_array([first, second])


SAME = {
    "text": pa.array(TOWNS),
    "large text": pa.array(TOWNS, pa.large_string()),
    "a dictionary": pa.array(TOWNS).dictionary_encode(),
    "a dictionary in another order, with a value that no row has": pa.DictionaryArray.from_arrays(
        pa.array([4, 2, None, 0, 4, 3], pa.int8()), ["Ålesund", "Aachen", "Bonn", "bonn", "Ulm"]
    ),
    "two dictionaries": in_two_pieces(pa.array(TOWNS[:2]).dictionary_encode(), pa.array(TOWNS[2:]).dictionary_encode()),
}


@pytest.mark.parametrize("column", SAME.values(), ids=SAME.keys())
def test_however_texts_are_stored_their_codes_are_the_same(column: Any) -> None:
    dataset = load({"town": column})
    np.testing.assert_array_equal(dataset.features[:, 0], np.array(CODES, np.float32))
    assert dataset.categories == {"town": CATEGORIES}


def test_rows_have_the_same_hashes_from_csv_and_parquet(tmp_path: Path) -> None:
    table = pa.table({"town": TOWNS, "n": [1, 2, 3, 4, 5, None], "y": range(6)})
    rows = zip(*(["" if v is None else str(v) for v in column.to_pylist()] for column in table.columns), strict=True)
    (tmp_path / "t.csv").write_text("town,n,y\n" + "".join(",".join(row) + "\n" for row in rows))
    table = table.set_column(0, "town", table["town"].dictionary_encode())
    pq.write_table(table.slice(0, 3), tmp_path / "1.parquet")
    pq.write_table(table.slice(3), tmp_path / "2.parquet")
    from_csv = load(tmp_path / "t.csv")
    from_parquet = load_dataset(DataSpec((f"{tmp_path}/1.parquet", f"{tmp_path}/2.parquet")), "regression", CPU)
    np.testing.assert_array_equal(row_hashes(from_csv.features), row_hashes(from_parquet.features))
    assert from_csv.categories == from_parquet.categories == {"town": CATEGORIES}


def test_a_table_of_numbers_has_no_categories() -> None:
    dataset = load({"n": [1, 2, 3, 4], "flag": [True, False, None, True], "none": pa.nulls(4, pa.string())})
    assert (dataset.categories, dataset.feature_types) == ({}, None)
    np.testing.assert_array_equal(dataset.features[:, 1], [1, 0, np.nan, 1])
    assert np.isnan(dataset.features[:, 2]).all()


NAMED = {
    "whole numbers": ([30, 7, None, 30], [1, 0, np.nan, 1], (7, 30)),
    "numbers beyond 2^53": ([2**60 + 1, 2**60, None, 2**60], [1, 0, np.nan, 0], (2**60, 2**60 + 1)),
    "floating numbers": ([1.5, float("nan"), None, -1.0], [1, np.nan, np.nan, 0], (-1.0, 1.5)),
    "decimals": ([Decimal("1.5"), Decimal("0.5"), None, Decimal("1.5")], [1, 0, np.nan, 1], (0.5, 1.5)),
    "booleans": ([True, False, None, True], [1, 0, np.nan, 1], (False, True)),
    "dates": (
        [dt.date(2026, 2, 1), dt.date(2026, 1, 9), None, None], [1, 0, np.nan, np.nan], ("2026-01-09", "2026-02-01")
    ),
    "texts of numbers": (["10", "9", None, "10"], [0, 1, np.nan, 0], ("10", "9")),
}  # fmt: skip


@pytest.mark.parametrize(("column", "codes", "categories"), NAMED.values(), ids=NAMED.keys())
def test_any_column_can_be_named_as_categories(column: Any, codes: Any, categories: Any) -> None:
    dataset = load({"column": pa.array(column)}, categorical=("col*",))
    np.testing.assert_array_equal(dataset.features[:, 0], np.array(codes, np.float32))
    assert dataset.categories == {"column": categories}


def test_a_list_names_all_categories_there_are() -> None:
    told = refused({"town": ["a", "b", "a", "b"], "zip": [1, 2, 1, 2]}, categorical=("zip",))
    assert "column 'town' of handed over must hold numbers, got a value of type string in row 1" in told
    assert "name it in data.categorical" in told


def test_without_categories_texts_are_refused() -> None:
    assert "column 'town' of handed over must hold numbers" in refused({"town": TOWNS}, categorical=None)


def test_a_name_that_no_feature_has_is_refused() -> None:
    told = refused({"town": TOWNS}, categorical=("y",))  # the label
    assert told == "data.categorical 'y' matches no feature; the table has: town"
    with pytest.raises(SpecError, match="categorical must be auto, a list of columns or null, got 'town'"):
        DataSpec("t", categorical="town")


def test_what_is_no_value_is_no_category() -> None:
    told = refused({"raw": pa.array([b"a", b"b", b"a", b"b"])}, categorical=("raw",))
    assert "column 'raw' of handed over must hold texts, numbers or dates to be categories, got type binary" in told


def test_texts_that_are_too_many_for_categories_are_refused_with_their_number() -> None:
    many = [f"t{i % (MAX_TEXTS + 1)}" for i in range(3 * MAX_TEXTS)]
    told = refused({"id": many})
    assert f"column 'id' of handed over holds {MAX_TEXTS + 1} different texts in {3 * MAX_TEXTS} rows" in told
    assert "data.columns: {drop: [...]}, or name it in data.categorical" in told
    assert len(load({"id": many}, categorical=("id",)).categories["id"]) == MAX_TEXTS + 1


def test_texts_of_which_each_row_has_its_own_are_refused() -> None:
    few = [f"t{i}" for i in range(FEW_TEXTS)]
    assert len(load({"id": few}).categories["id"]) == FEW_TEXTS
    assert f"holds {FEW_TEXTS + 1} different texts in {FEW_TEXTS + 1} rows" in refused({"id": [*few, "more"]})


def test_a_slip_among_numbers_makes_no_categories_of_them() -> None:
    told = refused({"n": ["1.5", "2", "many", "4"] * 2000})
    assert "column 'n' of handed over must hold numbers, got a value of type string in row 3" in told
    assert "add it to data.missing" in told
    assert "many" not in told


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([dt.date(1970, 1, 2), dt.date(2026, 1, 1), dt.date(1969, 12, 31), None]), [1, 20454, -1, np.nan]),
        (pa.array([dt.date(1970, 1, 2), None, None, None], pa.date64()), [1, np.nan, np.nan, np.nan]),
        (pa.array([0, 43_200, 86_400, None], pa.timestamp("s")), [0, 0.5, 1, np.nan]),
        (pa.array([0, 43_200 * 10**9, -86_400 * 10**9, None], pa.timestamp("ns", "Asia/Tokyo")), [0, 0.5, -1, np.nan]),
        (pa.array([0, 21_600_000, 43_200_000, None], pa.time32("ms")), [0, 0.25, 0.5, np.nan]),
        (pa.array([0, 21_600 * 10**6, None, None], pa.time64("us")), [0, 0.25, np.nan, np.nan]),
        (pa.array([0, 86_400 * 10**6, None, None], pa.duration("us")), [0, 1, np.nan, np.nan]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
@pytest.mark.parametrize("categorical", ["auto", None])
def test_dates_and_times_become_days_since_1970(column: pa.Array, expected: Any, categorical: Any) -> None:
    dataset = load({"when": column}, categorical=categorical)
    np.testing.assert_array_equal(dataset.features[:, 0], np.array(expected, np.float32))
    assert dataset.categories == {}


def test_no_text_of_the_table_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        load({"town": TOWNS})
    assert not [record for record in caplog.records if "Ulm" in record.getMessage()]
