"""Tables as people have them: files made in code, with what every reader must make of each."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Mapping[str, Sequence[Any]]
Written = str | list[str]


@dataclass(frozen=True)
class Case:
    """A table and what reading it gives.

    Attributes:
        write: Makes the files in a folder; the path that a study file then names.
        types: The Arrow type of each column of the table, in order; empty where it is refused as soon as it is opened.
        label: The column that is predicted.
        labels: Its values, or indices of classes.
        error: Regular expression of the sentence that refuses it; empty where it can be trained on.
        given: Keys of `data` beside the path.
        task: xgboost.task.
        columns: Some features as they stand in the matrix.
        categories: The values that codes stand for.
    """

    write: Callable[[Path], Written]
    types: Mapping[str, str] = field(default_factory=dict)
    label: str = "y"
    labels: Sequence[float] = (10, 20, 30, 40)
    error: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    task: str = "regression"
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)
    categories: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


TEXT = "a,b,y\n1,0.5,10\n2,1.5,20\n3,,30\n4,3.5,40\n"
ROWS: Rows = {"a": [1, 2, 3, 4], "b": [0.5, 1.5, None, 3.5], "y": [10, 20, 30, 40]}
TYPES = {"a": "int64", "b": "double", "y": "int64"}


def text(content: str | bytes, name: str = "t.csv") -> Callable[[Path], str]:
    """A file with this content."""

    def write(folder: Path) -> str:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    return write


def parquet(rows: Rows | pa.Table, name: str = "t.parquet") -> Callable[[Path], str]:
    """A Parquet file of these columns."""
    return text(parquet_bytes(rows if isinstance(rows, pa.Table) else pa.table(dict(rows))), name)


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def with_index(rows: Rows, *index: Any) -> pa.Table:
    """A table with what pandas notes of its index: names of columns, or the description of a range."""
    return pa.table(dict(rows)).replace_schema_metadata({"pandas": json.dumps({"index_columns": list(index)})})


def many(*files: Callable[[Path], Any], path: str = "") -> Callable[[Path], str]:
    """Several files; the path is the folder, or what is given below it."""

    def write(folder: Path) -> str:
        for file in files:
            file(folder)
        return str(folder / path) if path else str(folder)

    return write


def listed(*files: Callable[[Path], Any]) -> Callable[[Path], list[str]]:
    """Several files, named one by one."""
    return lambda folder: [file(folder) for file in files]


def zipped(*members: tuple[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    compressed: bytes = sink.getvalue().to_pybytes()
    return compressed


def part(first: int, name: str) -> Callable[[Path], str]:
    """Half of the usual table."""
    lines = TEXT.splitlines(keepends=True)
    return text(lines[0] + "".join(lines[first : first + 2]), name)


def parquet_part(first: int, name: str) -> Callable[[Path], str]:
    return parquet(pa.table(dict(ROWS)).slice(first, 2), name)


STRANGE = ("fixed.acidity", "`tick`", "[b] <1>", " blank ", "größe 粒", 'say "x"', "a,b")
STRANGE_ROWS = {name: [i, i + 1, i + 2, i + 3] for i, name in enumerate(STRANGE)} | {"y": [10, 20, 30, 40]}
STRANGE_TYPES = dict.fromkeys(STRANGE_ROWS, "int64")


def csv_of(rows: Rows) -> str:
    def cell(value: Any) -> str:
        return '"' + str(value).replace('"', '""') + '"' if isinstance(value, str) else str(value)

    lines = [list(rows), *zip(*rows.values(), strict=True)]
    return "".join(",".join(map(cell, line)) + "\n" for line in lines)


LATIN = "größe,y\n1,10\n2,20\n3,30\n4,40\n"
LATIN_CLASSES = "a,y\n1,rot\n2,rot\n3,grün\n4,grün\n"
WIDE = {f"c{i}": [i, i + 1, i + 2, i + 3] for i in range(10_000)}
WIDE_TEXT = ",".join([*WIDE, "y"]) + "\n" + "".join(f"{',' * 9_999}1,{10 * (i + 1)}\n" for i in range(4))
BIG = 2**53

METADATA = {
    "a range as index": Case(parquet(with_index(ROWS, {"kind": "range", "start": 0, "stop": 4, "step": 1})), TYPES),
    "an unnamed index, no label named": Case(
        parquet(with_index({**ROWS, "__index_level_0__": [7, 8, 9, 6]}, "__index_level_0__")), TYPES
    ),
    "an unnamed index, the label named": Case(
        parquet(with_index({**ROWS, "__index_level_0__": [7, 8, 9, 6]}, "__index_level_0__")), TYPES,
        given={"label": "y"},
    ),
    "a named index": Case(parquet(with_index({**ROWS, "id": [7, 8, 9, 6]}, "id")), TYPES),
    "an index that is the label": Case(
        parquet(with_index({**ROWS, "id": [7, 8, 9, 6]}, "id")), {**TYPES, "id": "int64"}, "id", [7, 8, 9, 6],
        given={"label": "id"},
    ),
    "a hive folder of Parquet": Case(
        many(parquet_part(0, "year=2024/month=01/0.parquet"), parquet_part(2, "year=2025/month=02/0.parquet")),
        {**TYPES, "year": "int64", "month": "int64"},
    ),
    "a hive folder of CSV": Case(
        many(part(1, "year=2024/0.csv"), part(3, "year=2025/0.csv"), text("", "_SUCCESS"), text("x", "_log/1.json")),
        {**TYPES, "year": "int64"},
    ),
    "a hive folder with numbers and a gap": Case(
        many(part(1, "share=0.5/0.csv"), part(3, "share=__HIVE_DEFAULT_PARTITION__/0.csv")),
        {**TYPES, "share": "double"},
    ),
    "a hive folder whose column is the label": Case(
        many(part(1, "kind=a%20b/0.csv"), part(3, "kind=c/0.csv")),
        {**TYPES, "kind": "string"}, "kind", [0, 0, 1, 1], given={"label": "kind"}, task="binary",
    ),
    "a hive folder whose files have its column": Case(
        many(part(1, "a=1/0.csv"), part(3, "a=2/0.csv")), error=r"columns must have different names, got 'a' twice",
    ),
    "one file of a hive folder": Case(
        many(parquet(ROWS, "year=2024/0.parquet"), path="year=2024/0.parquet"), TYPES
    ),
}  # fmt: skip

NAMES = {
    "strange names in CSV": Case(text(csv_of(STRANGE_ROWS)), STRANGE_TYPES),
    "strange names in Parquet": Case(parquet(STRANGE_ROWS), STRANGE_TYPES),
    "names that differ in case, CSV": Case(text(TEXT.replace("b", "A")), {"a": "int64", "A": "double", "y": "int64"}),
    "names that differ in case, Parquet": Case(
        parquet({"a": ROWS["a"], "A": ROWS["b"], "y": ROWS["y"]}), {"a": "int64", "A": "double", "y": "int64"}
    ),
    "a name twice, CSV": Case(text(TEXT.replace("b", "a")), error=r"must have different names, got 'a' twice"),
    "a name twice, Parquet": Case(
        parquet(pa.table([[1, 2, 3, 4]] * 3, names=["a", "a", "y"])), error=r"must have different names, got 'a' twice"
    ),
    "a column without a name first": Case(
        text(",a,y\n0,1,10\n1,2,20\n2,3,30\n3,4,40\n"), error=r"column 1 of .*t.csv has no name.*drop: \[''\]"
    ),
    "a comma at the end of each line": Case(
        text(TEXT.replace("\n", ",\n")), error=r"column 4 of .*t.csv has no name.*drop: \[''\]"
    ),
    "a comma at the end of each line, dropped": Case(
        text(TEXT.replace("\n", ",\n")), TYPES, given={"columns": {"drop": [""]}}
    ),
    "a comma at the end of each row": Case(
        text(TEXT.replace("\n", ",\n").replace("y,", "y", 1)), error=r"row 2: expected 3 columns, got 4"
    ),
    "10,000 columns": Case(text(WIDE_TEXT), {**dict.fromkeys(WIDE, "null"), "c9999": "int64", "y": "int64"}),
    "10,000 columns and no label": Case(
        text(WIDE_TEXT), error=r"'z' names no column.* and 9971 more", given={"label": "z"}
    ),
}

MISSING_TEXT = "a,b,y\n1,NA,10\n2,null,20\n3,,30\n4,3.5,40\n"
CLASSES = "a,y\n1,NA\n2,NA\n3,EU\n4,EU\n"
MISSING = {
    "words for what is missing": Case(text(MISSING_TEXT), TYPES),
    "a class called NA": Case(
        text(CLASSES), error=r"got 2 empty or NaN.*data.missing: \[\]", task="binary"
    ),
    "a class called NA, wanted": Case(
        text(CLASSES), {"a": "int64", "y": "string"}, labels=[1, 1, 0, 0], given={"missing": []}, task="binary"
    ),
    "a class called NA in Parquet": Case(
        parquet({"a": [1, 2, 3, 4], "y": ["NA", "NA", "EU", "EU"]}), {"a": "int64", "y": "string"},
        labels=[1, 1, 0, 0], task="binary",
    ),
    "words of one's own": Case(
        text("a,b,y\n1,?,10\n2,-999,20\n3,,30\n4,3.5,40\n"), TYPES, given={"missing": ["?", "-999"]}
    ),
    "words of one's own in Parquet": Case(
        parquet({"a": [1, 2, 3, 4], "b": [-999, 1.5, 2.5, 3.5], "y": [10, 20, 30, 40]}), TYPES,
        given={"missing": ["?", "-999"]},
    ),
    "no word is missing, but an empty cell is": Case(text(TEXT), TYPES, given={"missing": []}),
}  # fmt: skip

RAW = TEXT.encode()
COMPRESSED = {
    f"{name}{' by another name' if other else ''}": Case(text(content, "t.csv" if other else f"t.csv.{name}"), TYPES)
    for other in (False, True)
    for name, content in {
        "gz": gzip.compress(RAW), "bz2": bz2.compress(RAW), "zst": zstd(RAW), "xz": lzma.compress(RAW),
        "zip": zipped(("t.csv", TEXT)),
    }.items()
} | {
    "gz in two parts": Case(text(gzip.compress(RAW[:11]) + gzip.compress(RAW[11:]), "t.csv.gz"), TYPES),
    "no gz in spite of its name": Case(text(TEXT, "t.csv.gz"), TYPES),
    "a zip of several files": Case(
        text(zipped(("t.csv", TEXT), ("u.csv", TEXT)), "t.zip"), error=r"t.zip holds 2 files and must hold one"
    ),
    "a broken gz": Case(text(gzip.compress(RAW)[:-20], "t.csv.gz"), error=r"cannot read .*t.csv.gz as csv: .*gzip"),
    "Parquet that is called gzip": Case(parquet(ROWS, "t.parquet.gzip"), TYPES),
    "Parquet in gzip": Case(text(gzip.compress(parquet_bytes(pa.table(dict(ROWS)))), "t.parquet.gz"), TYPES),
    "Parquet without an ending": Case(parquet(ROWS, "t"), TYPES),
    "CSV that is called Parquet": Case(text(TEXT, "t.parquet"), error=r"cannot read .*t.parquet as parquet: it is no"),
}  # fmt: skip

ENCODED = {
    "UTF-8 with a mark": Case(text(b"\xef\xbb\xbf" + RAW), TYPES),
    "a Latin-1 header": Case(text(LATIN.encode("latin-1")), error=r"t.csv is not UTF-8 \(line 1\): .*data.encoding"),
    "a Latin-1 value": Case(
        text(LATIN_CLASSES.encode("latin-1")), error=r"t.csv is not UTF-8 \(line 4, column 'y'\): .*data.encoding",
        task="binary",
    ),
    "a Latin-1 header, said": Case(
        text(LATIN.encode("latin-1")), {"größe": "int64", "y": "int64"}, given={"encoding": "latin-1"}
    ),
    "a Latin-1 value, said": Case(
        text(LATIN_CLASSES.encode("latin-1")), {"a": "int64", "y": "string"}, labels=[1, 1, 0, 0],
        given={"encoding": "latin-1"}, task="binary",
    ),
    "UTF-16": Case(text(TEXT.encode("utf-16")), error=r"t.csv is not UTF-8 \(.*UTF-16.*\): .*data.encoding"),
    "UTF-16, said": Case(text(TEXT.encode("utf-16")), TYPES, given={"encoding": "utf-16"}),
    "UTF-8 that is said to be UTF-16": Case(
        text(TEXT + "1"), error=r"t.csv is not utf-16.*data.encoding", given={"encoding": "utf-16"}
    ),
}  # fmt: skip

SEVERAL = {
    "a folder of CSV": Case(many(part(3, "b.csv"), part(1, "a.csv")), TYPES),
    "a folder of Parquet": Case(many(parquet_part(2, "b.parquet"), parquet_part(0, "a.parquet")), TYPES),
    "a list": Case(listed(part(1, "z.csv"), part(3, "b.csv")), TYPES),
    "a glob": Case(many(part(1, "x-1.csv"), part(3, "x-2.csv"), text("p,q\n", "z.csv"), path="x-*.csv"), TYPES),
    "a glob of folders": Case(many(part(1, "d1/x.csv"), part(3, "d2/x.csv"), path="*/x.csv"), TYPES),
    "a glob that is the file's name": Case(text(TEXT, "t[1].csv"), TYPES),
    "a glob of nothing": Case(many(part(1, "x.csv"), path="*.txt"), error=r"\*.txt' matches no file on "),
    "an empty folder": Case(many(path=""), error=r"holds no file"),
    "columns in another order": Case(
        listed(part(1, "1.csv"), text("y,a,b\n30,3,\n40,4,3.5\n", "2.csv")), TYPES
    ),
    "other columns": Case(
        listed(part(1, "1.csv"), text("a,c,y\n3,1,30\n4,1,40\n", "2.csv")),
        error=r"2.csv has other columns than .*1.csv: it lacks 'b', and has 'c'",
    ),
    "whole numbers, then others": Case(
        listed(text("a,y\n1,10\n2,20\n", "1.csv"), text("a,y\n0.5,30\n,40\n", "2.csv")), {"a": "double", "y": "int64"}
    ),
    "whole numbers, then others, in Parquet": Case(
        listed(
            parquet({"a": pa.array([1, 2], pa.int32()), "y": [10, 20]}, "1.parquet"),
            parquet({"a": [0.5, None], "y": [30, 40]}, "2.parquet"),
        ),
        {"a": "double", "y": "int64"},
    ),
    "numbers, then text": Case(
        listed(text("a,y\n1,10\n2,20\n", "1.csv"), text("a,y\nx,30\ny,40\n", "2.csv")),
        error=r"column 'a' is int64 in .*1.csv and string in .*2.csv",
    ),
}  # fmt: skip

COLUMNS = {
    "columns dropped": Case(text(TEXT), {"a": "int64", "y": "int64"}, given={"columns": {"drop": ["b*"]}}),
    "columns kept": Case(text(TEXT), {"b": "double", "y": "int64"}, given={"columns": {"keep": ["[bc]"]}}),
    "the last column dropped": Case(
        text(TEXT), {"a": "int64", "b": "double"}, "b", [0.5, 1.5, 2.5, 3.5], given={"columns": {"drop": ["y"]}},
        error=r"label column 'b'.* must hold a value in every row",
    ),
    "a name is no glob": Case(
        parquet({"[ab]": [9, 9, 9, 9], **ROWS}), TYPES, given={"columns": {"drop": ["[ab]"]}}
    ),
    "a column that is not there": Case(
        text(TEXT), error=r"data.columns.drop 'c\*' matches no column", given={"columns": {"drop": ["c*"]}}
    ),
    "no feature is left": Case(
        text(TEXT), error=r"leaves no feature", given={"columns": {"drop": ["a", "b"]}}
    ),
}  # fmt: skip

VALUES = {
    "CSV": Case(text(TEXT), TYPES),
    "CSV, lines end as on Windows": Case(text(TEXT.replace("\n", "\r\n")), TYPES),
    "Parquet": Case(parquet(ROWS), TYPES),
    "booleans and small numbers": Case(
        parquet({"f": [True, False, None, True], "s": pa.array([1, 2, 3, 4], pa.uint8()), "y": [10, 20, 30, 40]}),
        {"f": "bool", "s": "uint8", "y": "int64"},
    ),
    "booleans in CSV": Case(
        text("f,y\ntrue,10\nfalse,20\n,30\ntrue,40\n"), {"f": "bool", "y": "int64"},
    ),
    "line breaks and quotes in texts": Case(
        text('a,y\n1,"p ""q""\nr"\n2,"p ""q""\nr"\n3,s\n4,s\n'), {"a": "int64", "y": "string"}, labels=[0, 0, 1, 1],
        task="binary",
    ),
    "dictionaries as classes": Case(
        parquet({"a": [1, 2, 3, 4], "y": pa.array(["q", "q", "p", "p"]).dictionary_encode()}),
        {"a": "int64", "y": "dictionary<values=string, indices=int32, ordered=0>"}, labels=[1, 1, 0, 0], task="binary",
    ),
    "a text among numbers": Case(
        text(TEXT.replace("1.5", "oops")), error=r"column 'b'.* must hold numbers, got a value of type string in row 2"
    ),
    "dates and times": Case(
        text("d,t,y\n2026-01-01,2026-01-01 06:00:00,10\n2026-01-02,2026-01-01 06:00:00,20\n,,30\n1969-12-31,,40\n"),
        {"d": "date32[day]", "t": "timestamp[s]", "y": "int64"},
        columns={"d": [20454, 20455, nan, -1], "t": [20454.25] * 2 + [nan] * 2},
    ),
    "dates in Parquet": Case(
        parquet({"d": pa.array([20454, 20455, None, -1], pa.int32()).cast(pa.date32()), "y": [10, 20, 30, 40]}),
        {"d": "date32[day]", "y": "int64"}, columns={"d": [20454, 20455, nan, -1]},
    ),
    "whole numbers above 2^53": Case(
        text(f"a,id,y\n1,{BIG},10\n2,{BIG + 1},20\n3,{BIG + 2},30\n4,{BIG + 3},40\n"),
        error=r"column 'id' of .*t.csv holds whole numbers beyond 2\^53 .*row 2.*data.columns",
    ),
    "whole numbers above 2^53 in Parquet": Case(
        parquet({"id": pa.array([1, 2, -BIG - 1, 4], pa.int64()), "y": [10, 20, 30, 40]}),
        error=r"column 'id' of .*t.parquet holds whole numbers beyond 2\^53 .*row 3.*data.columns",
    ),
    "whole numbers above 2^53 as classes": Case(
        text(f"a,y\n1,{BIG}\n2,{BIG + 1}\n3,{BIG}\n4,{BIG + 1}\n"), {"a": "int64", "y": "int64"}, labels=[0, 1, 0, 1],
        task="binary",
    ),
    "no bytes": Case(text(""), error=r"t.csv is empty"),
    "no rows": Case(text("a,b,y\n"), error=r"t.csv must have at least 4 rows, got 0"),
    "no rows in Parquet": Case(
        parquet(pa.table(dict(ROWS)).slice(0, 0)), error=r"t.parquet must have at least 4 rows, got 0"
    ),
    "no label in any row": Case(
        text("a,y\n1,\n2,\n3,NA\n4,\n"), error=r"label column 'y' of .*t.csv holds no value in any of its 4 rows",
    ),
    "one class": Case(
        text("a,y\n1,p\n2,p\n3,p\n4,p\n"), error=r"label column 'y' of .*t.csv .*at least 2 classes, got 1",
        task="binary",
    ),
    "a constant label": Case(
        text("a,y\n1,5\n2,5\n3,5\n4,5\n"), error=r"label column 'y' of .*t.csv holds the same number in every row",
    ),
    "another separator": Case(
        text(TEXT.replace(",", ";")), error=r"t.csv .* got 1: .*data.separator",
    ),
}  # fmt: skip

TOWNS = ["Ulm", "Bonn", None, "Ålesund"]
TOWN_TEXT = "town,n,y\nUlm,7,10\nBonn,9,20\n,7,30\nÅlesund,,40\n"
TOWN_ROWS: Rows = {"town": TOWNS, "n": [7, 9, 7, None], "y": [10, 20, 30, 40]}
TOWN_TYPES = {"town": "string", "n": "int64", "y": "int64"}
TOWN_CODES = {"town": [1, 0, nan, 2], "n": [7, 9, 7, nan]}
KNOWN = {"town": ("Bonn", "Ulm", "Ålesund")}

CATEGORIES = {
    "categories": Case(text(TOWN_TEXT), TOWN_TYPES, columns=TOWN_CODES, categories=KNOWN),
    "categories in Parquet": Case(parquet(TOWN_ROWS), TOWN_TYPES, columns=TOWN_CODES, categories=KNOWN),
    "categories of pandas": Case(
        parquet({**TOWN_ROWS, "town": pa.DictionaryArray.from_arrays(
            pa.array([3, 1, None, 0], pa.int8()), ["Ålesund", "Bonn", "X", "Ulm"]
        )}),
        {**TOWN_TYPES, "town": "dictionary<values=string, indices=int8, ordered=0>"},
        columns=TOWN_CODES, categories=KNOWN,
    ),
    "categories, each file with others": Case(
        listed(text("town,y\nUlm,10\nBonn,20\n", "1.csv"), text("town,y\n,30\nÅlesund,40\n", "2.csv")),
        {"town": "string", "y": "int64"}, columns={"town": [1, 0, nan, 2]}, categories=KNOWN,
    ),
    "categories by name": Case(
        text(TOWN_TEXT), TOWN_TYPES, given={"categorical": ["t*", "n"]},
        columns={"town": [1, 0, nan, 2], "n": [0, 1, 0, nan]}, categories={**KNOWN, "n": (7, 9)},
    ),
    "categories of numbers, by name, in Parquet": Case(
        parquet(ROWS), TYPES, given={"categorical": ["a"]}, columns={"a": [0, 1, 2, 3]}, categories={"a": (1, 2, 3, 4)},
    ),
    "no categories": Case(
        text(TOWN_TEXT), error=r"column 'town'.* must hold numbers, .*data.categorical", given={"categorical": None}
    ),
    "categories by a wrong name": Case(
        text(TOWN_TEXT), error=r"data.categorical 'city' matches no feature; .*town, n$",
        given={"categorical": ["city"]},
    ),
    "a name in each row": Case(
        text("id,y\n" + "".join(f"name {i},{i}\n" for i in range(101))),
        error=r"column 'id' of .*t.csv holds 101 different texts in 101 rows; .*data.columns.*data.categorical",
    ),
}  # fmt: skip

CASES: dict[str, Case] = {
    **VALUES,
    **METADATA,
    **NAMES,
    **MISSING,
    **COMPRESSED,
    **ENCODED,
    **SEVERAL,
    **COLUMNS,
    **CATEGORIES,
}
