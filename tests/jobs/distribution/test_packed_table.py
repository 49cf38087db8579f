"""A table on its way through Spark: it comes out as it went in, in however many pieces."""

from __future__ import annotations

import pyarrow as pa
import pytest

from optuna_spark.data.files.columns import is_of_folder, of_folder
from optuna_spark.distribution import packed_table
from optuna_spark.distribution.packed_table import pack, unpack
from optuna_spark.errors import DataError

FIELDS = [
    pa.field("a.b", pa.uint8()),
    of_folder(pa.field("A", pa.dictionary(pa.int8(), pa.string()))),
    ("y", pa.null()),
]
TABLE = pa.table(
    [
        pa.array(range(100), pa.uint8()),
        pa.array(["p", None] * 50).dictionary_encode().cast(FIELDS[1].type),
        pa.nulls(100),
    ],
    schema=pa.schema(FIELDS),
)


@pytest.mark.parametrize(("size", "pieces"), [(1 << 20, 1), (100, 3)])
def test_a_table_comes_out_as_it_went_in(monkeypatch: pytest.MonkeyPatch, size: int, pieces: int) -> None:
    monkeypatch.setattr(packed_table, "_PIECE_BYTES", size)
    rows = list(pack(lambda: TABLE, str))
    assert len(rows) >= pieces
    found = unpack(rows)
    assert found.equals(TABLE, check_metadata=True)
    assert is_of_folder(found.schema.field("A"))
    assert rows == []  # so that only the table keeps their memory


def test_a_table_without_rows_keeps_its_columns() -> None:
    assert unpack(list(pack(lambda: TABLE.slice(0, 0), str))).schema == TABLE.schema


def test_what_goes_wrong_is_a_row_that_says_so() -> None:
    def refuse() -> pa.Table:
        raise DataError("no such file")

    def break_down() -> pa.Table:
        raise ValueError("a secret")

    for read, text in ((refuse, "no such file"), (break_down, "ValueError")):
        (row,) = pack(read, lambda error: type(error).__name__)
        assert row.to_pydict() == {"problem": [text], "kind": ["bad"], "piece": [None]}
