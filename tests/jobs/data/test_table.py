"""What an objective of one's own reads with `context.read_table` and `context.data_file`, whoever has the file."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from init.local.layout import REPOSITORY
from optuna_spark.data.table import forget_tables
from optuna_spark.device import Device
from optuna_spark.errors import DataError, SpecError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.spec.data import DataSpec, TestColumn
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from tests.support.https import secure_site, site_certificate
from tests.support.programs import run_program

CPU = Device("cpu", None, 1)
TEXT = "town;rooms;price\nUlm;2;10.5\nBonn;3;20\n;4;30\nUlm;;40\n"
ROWS = {"town": ["Ulm", "Bonn", None, "Ulm"], "rooms": [2, 3, 4, None], "price": [10.5, 20, 30, 40]}


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    forget_tables()
    yield
    forget_tables()


def context_of(path: Path | str, secrets: DataSecrets | None = None, **data: Any) -> ObjectiveContext:
    spec = TuningSpec("study", data=DataSpec(str(path), **data), distribution="rdd")
    return ObjectiveContext(spec, CPU, data_secrets=secrets or DataSecrets())


def written(folder: Path, text: str = TEXT) -> Path:
    file = folder / "towns.csv"
    file.write_text(text)
    return file


def test_a_csv_is_read_with_its_texts_and_its_missing_values(tmp_path: Path) -> None:
    table = context_of(written(tmp_path), separator=";").read_table()
    assert table.to_pydict() == ROWS


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    given = pa.table({"day": pa.array([1, 2], pa.date32()), "n": pa.array([1, None], pa.int8())})
    (tmp_path / "days").mkdir()
    pq.write_table(given, tmp_path / "days" / "0.parquet")
    assert context_of(tmp_path / "days" / "0.parquet").read_table() == given
    assert context_of(tmp_path / "days").read_table() == given


def test_a_table_of_scikit_learns_has_no_file() -> None:
    context = context_of("sklearn:wine")
    assert context.read_table().num_rows == 178
    with pytest.raises(DataError, match="has no file: use read_table"):
        context.data_file()


def test_a_process_reads_a_table_once_and_a_new_one_again(tmp_path: Path) -> None:
    file = written(tmp_path)
    context = context_of(file, separator=";")
    first = context.read_table()
    assert context_of(file, separator=";").read_table() is first
    written(tmp_path, TEXT + "Trier;1;5\n")
    assert context.read_table() is first  # trials of one worker see one table
    assert context_of(file, separator=";").read_table().num_rows == 5


def test_the_table_that_spark_has_read_is_taken(tmp_path: Path) -> None:
    table = pa.table({"a": [1]})
    spec = TuningSpec("study", data=DataSpec("orders", format="table"), distribution="dataframe")
    assert ObjectiveContext(spec, CPU, table).read_table() is table
    for read in (ObjectiveContext(spec, CPU).read_table, ObjectiveContext(spec, CPU, table).data_file):
        with pytest.raises(SpecError, match=r"Spark reads data.path 'orders', and workers have no file of it"):
            read()


def test_a_study_without_data_says_so() -> None:
    context = ObjectiveContext(TuningSpec("study"), CPU)
    for read in (context.read_table, context.data_file):
        with pytest.raises(SpecError, match=r"the study names none: give data.path"):
            read()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="columns must have different names, got 'a' twice"):
        context_of(written(tmp_path, "a,b,a\n1,2,3\n")).read_table()


def test_a_missing_file_names_the_machine(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist on .*: put the file where every Spark worker can read it"):
        context_of(tmp_path / "none.csv").read_table()


def test_a_file_of_any_format_is_checked_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"\0\1")
    assert context_of(file, sha256=hashlib.sha256(b"\0\1").hexdigest()).data_file() == file
    with pytest.raises(DataError, match=r"must have sha256 0{64}"):
        context_of(file, sha256="0" * 64).data_file()


def test_what_lies_behind_a_login_is_fetched_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNING_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    certificate = site_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    login = "Basic " + base64.b64encode(b"joe:hush").decode()
    with secure_site(certificate) as site:
        site.files["/towns.csv"] = TEXT.encode()
        site.logins.add(login)
        digest = hashlib.sha256(TEXT.encode()).hexdigest()
        url = site.url("/towns.csv")
        context = context_of(url, DataSecrets(login), separator=";", sha256=digest, connection="lake")
        assert context.read_table().to_pydict() == ROWS
        assert context.data_file().read_text() == TEXT
        assert site.seen == [("/towns.csv", login)]


def test_airflow_can_import_the_context_without_what_reads_tables() -> None:
    code = "import sys, optuna_spark.objectives.context; print([m for m in ('pyarrow', 'numpy') if m in sys.modules])"
    done = run_program([sys.executable, "-c", code], env={"PYTHONPATH": str(REPOSITORY / "jobs")})
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.stdout.strip() == "[]"


def test_with_test_rows_the_table_lacks_them_and_the_whole_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("held,a,y\n1,1,1\n0,2,2\n0,3,3\n0,4,4\n0,5,5\n")
    context = context_of(file, test=TestColumn("held"))
    assert context.read_table().to_pydict() == {"a": [2, 3, 4, 5], "y": [2, 3, 4, 5]}
    with pytest.raises(SpecError, match=r"the file holds them too: use context\.read_table\(\)"):
        context.data_file()
