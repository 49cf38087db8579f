"""One table, whatever reads it: each file gives the same types, names, missing values and errors with every reader."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from optuna_spark.spec.data import MISSING_IN_CSV
from tests.jobs.data.table_files import (
    CASES,
    COLUMNS,
    COMPRESSED,
    ENCODED,
    METADATA,
    MISSING,
    NAMES,
    SEVERAL,
    VALUES,
    Case,
)  # fmt: skip
from tests.jobs.read_tables import Facts, facts
from tests.support.submit import submit

# What Spark's own reader cannot tell: how bytes are compressed or encoded, pandas' notes, names it has changed, and
# files whose columns differ.
NOT_FOR_SPARK = {
    *COMPRESSED, *ENCODED, "a named index", "an index that is the label", "a name twice, CSV", "a name twice, Parquet",
    "a column without a name first", "a comma at the end of each line", "a comma at the end of each line, dropped",
    "a comma at the end of each row", "10,000 columns", "10,000 columns and no label", "no bytes",
    "a hive folder whose files have its column", "booleans and small numbers", "dictionaries as classes",
    "one file of a hive folder",
}  # fmt: skip
FOR_SPARK = {
    name: case for name, case in {**VALUES, **METADATA, **NAMES, **MISSING, **COLUMNS}.items()
    if name not in NOT_FOR_SPARK
} | {name: SEVERAL[name] for name in ("a folder of CSV", "a folder of Parquet", "a list", "a glob")}  # fmt: skip


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


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_is_given_the_same(tmp_path: Path, name: str) -> None:
    pytest.importorskip("cudf", reason="cuDF is for machines with a GPU, and not installed here")
    case = CASES[name]
    given = asked(case, tmp_path)
    assert facts(given, case.task, device="cuda") == facts(given, case.task)


@pytest.mark.slow
def test_every_way_to_start_workers_on_spark_gives_the_same(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    check(spark_cluster, tmp_path, CASES, "rdd", "joblib", "dataframe")


@pytest.mark.slow
def test_what_spark_opens_itself_becomes_the_same_table(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    check(spark_cluster, tmp_path, FOR_SPARK, "spark")


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
