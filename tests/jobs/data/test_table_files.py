"""One table, whatever reads it: each file gives the same types, names, missing values and errors with every reader.

tests/gpu has the reader that needs a GPU.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from optuna_spark.spec.data import MISSING_IN_CSV
from tests.jobs.data.table_files import CASES, Case
from tests.jobs.read_tables import Facts, facts
from tests.support.submit import submit

# What Spark hands over has to become the same table, except for what its own reader cannot tell (docs/tables.md).
FOR_SPARK = (
    "CSV", "Parquet", "line breaks and quotes in texts", "a text among numbers", "whole numbers above 2^53",
    "an unnamed index, no label named", "a hive folder of Parquet", "a hive folder with numbers and a gap",
    "a hive folder whose column is the label", "strange names in CSV", "strange names in Parquet",
    "names that differ in case, CSV", "names that differ in case, Parquet", "words for what is missing",
    "a class called NA, wanted", "words of one's own in Parquet", "columns dropped",
    "categories", "categories in Parquet", "categories by name", "a name in each row", "dates and times",
    "a folder of Parquet", "a glob",
)  # fmt: skip


def asked(case: Case, folder: Path) -> dict[str, Any]:
    return {"path": case.write(folder), **case.given}


@pytest.mark.parametrize("name", CASES)
def test_a_worker_reads_the_file(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    found = facts(asked(case, tmp_path), case.task)
    if case.error:
        assert re.search(case.error, found.get("error", "")), found
        assert "\n" not in found["error"]
        return
    assert found.get("error") is None
    assert list(found["types"].items()) == list(case.types.items())
    assert found["features"] == [column for column in case.types if column != case.label]
    assert found["labels"] == list(case.labels)
    assert found["categories"] == repr(dict(case.categories))
    for column, values in case.columns.items():
        rows = eval(found["matrix"], {"nan": nan})  # the text of our own matrix
        np.testing.assert_array_equal([row[found["features"].index(column)] for row in rows], values)


@pytest.mark.slow
def test_every_way_to_start_workers_on_spark_gives_the_same(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    bundled = Case(lambda _: "sklearn:iris", task="multiclass")
    check(spark_cluster, tmp_path, {**CASES, "a table of scikit-learn's": bundled}, "rdd", "joblib", "dataframe")


@pytest.mark.slow
def test_what_spark_opens_itself_becomes_the_same_table(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    check(spark_cluster, tmp_path, {name: CASES[name] for name in FOR_SPARK}, "spark")


def check(cluster: SparkCluster, folder: Path, cases: Mapping[str, Case], *readers: str) -> None:
    """Compare what readers on Spark give with what this process reads."""
    given = {}
    for number, (name, case) in enumerate(cases.items()):
        (folder / str(number)).mkdir()
        given[name] = asked(case, folder / str(number))
    file = folder / "asked.json"
    file.write_text(json.dumps([[name, given[name], case.task] for name, case in cases.items()]))
    done = submit(
        cluster.master_url,
        folder,
        [",".join(readers), str(file)],
        program=REPOSITORY / "tests" / "jobs" / "read_tables.py",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    found: dict[str, dict[str, Facts]] = json.loads(file.with_suffix(".found").read_text())
    here = {name: facts(given[name], case.task) for name, case in cases.items()}
    assert found == dict.fromkeys(readers, json.loads(json.dumps(here)))


def write_alone(folder: Path) -> Path:
    (folder / "xylophone.csv").write_text("a,y\n1,2\n")
    return folder


@pytest.mark.attack("the trigger", "a pattern for what is in a folder")
def test_a_run_that_gives_the_path_is_not_told_the_names_of_files(tmp_path: Path) -> None:
    found = facts({"path": f"{write_alone(tmp_path)}/xylo*", "names_in_errors": False}, "regression")
    assert "must have at least 4 rows" in found["error"]
    assert "xylophone" not in found["error"]
    for content in ("a,b\n1,2\n", "", "a,y\n1,2,3\n", "a,y\nx,2\n", "a,y\n\xff,2\n"):
        (tmp_path / "zebra.csv").write_bytes(content.encode("latin-1"))
        found = facts({"path": f"{tmp_path}/*.csv", "names_in_errors": False}, "regression")
        assert "error" in found
        assert not re.search("xylophone|zebra", found["error"])


def test_the_words_for_missing_values_are_those_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "t.csv"
    words = [*MISSING_IN_CSV, "missing", "-", "?", "none", "NAN"]
    file.write_text("word,n\n" + "".join(f"{word},1\n" for word in words))
    missing = pandas.read_csv(file)["word"].isna()
    assert [word for word, is_missing in zip(words, missing, strict=True) if is_missing] == list(MISSING_IN_CSV)


def test_the_page_lists_the_words_for_missing_values() -> None:
    page = (REPOSITORY / "docs" / "tables.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| CSV |")]
    assert re.findall(r"`([^`]+)`", row)[:-1] == list(MISSING_IN_CSV)
