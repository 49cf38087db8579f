"""Tables in object stores: a real server that speaks S3, and what each of its answers becomes."""

from __future__ import annotations

import hashlib
import io
import re
import socket
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optuna_spark.data.files.read_parquet import ParquetColumns
from optuna_spark.data.files.store_words import store_words
from optuna_spark.data.load import forget_datasets, load_dataset
from optuna_spark.data.read_spark import spark_opens_store
from optuna_spark.data.sources import held_still, seen_version, table_files
from optuna_spark.data.stores import opening
from optuna_spark.data.stores.opening import inner_path, open_store, outer_path
from optuna_spark.data.table import data_file, forget_tables, open_columns, read_table
from optuna_spark.device import Device
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets, problem_of_endpoint
from tests.support.s3_server import HUSH, KEY, S3Server

CPU = Device("cpu", None, 1)
TEXT = "a,y\n1,2\n3,4\n5,6\n7,8\n"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    forget_tables()
    forget_datasets()
    yield
    forget_tables()
    forget_datasets()


def parquet(year: int = 2023) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1.5, 2.5], "y": [year, year + 1]}), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def store(s3_server: S3Server) -> S3Server:
    for bucket in ("/box", "/empty", "/changing"):
        s3_server.put(bucket)
    s3_server.put("/box/t.csv", TEXT)
    for number in range(100):
        s3_server.put(f"/box/many/part-{number:03}.csv", f"a,y\n{number},{number}\n")
    s3_server.put("/box/many/_SUCCESS")
    for year in (2023, 2024):
        s3_server.put(f"/box/hive/year={year}/t.parquet", parquet(year))
    return s3_server


def read(store: S3Server, path: Any, seen: str = "", **data: Any) -> pa.Table:
    return read_table(DataSpec(path, connection="lake", **data), DataSecrets(store=store.secrets, seen=seen))


def refusal(store: S3Server, path: Any, **data: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(store, path, **data)
    text = str(caught.value)
    assert "\n" not in text
    assert HUSH not in text
    assert KEY not in text
    return text


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_a_file_of_a_store_is_a_table(store: S3Server, scheme: str) -> None:
    assert read(store, f"{scheme}://box/t.csv").to_pydict() == {"a": [1, 3, 5, 7], "y": [2, 4, 6, 8]}


@pytest.mark.parametrize("path", ["s3://box/many", "s3://box/many/", "s3://box/many/part-*.csv"])
def test_a_hundred_files_are_one_table(store: S3Server, path: str) -> None:
    assert read(store, path)["a"].to_pylist() == list(range(100))


def test_a_list_keeps_its_order(store: S3Server) -> None:
    assert read(store, ("s3://box/many/part-002.csv", "s3a://box/many/part-00[01].csv"))["a"].to_pylist() == [2, 0, 1]


def test_columns_of_folders_are_read(store: S3Server) -> None:
    assert read(store, "s3://box/hive").to_pydict() == {
        "a": [1.5, 2.5] * 2, "y": [2023, 2024, 2024, 2025], "year": [2023, 2023, 2024, 2024],
    }  # fmt: skip


def test_names_are_taken_literally(store: S3Server) -> None:
    store.put("/box/literal/a%252Bb%20c.csv", TEXT)
    assert read(store, "s3://box/literal/a%2Bb c.csv").num_rows == 4


def test_xgboost_gets_the_same_matrix(store: S3Server) -> None:
    dataset = load_dataset(
        DataSpec("s3://box/hive", label="y"), "regression", CPU, secrets=DataSecrets(store=store.secrets)
    )
    assert dataset.names == ("a", "year")
    assert dataset.features.tolist() == [[1.5, 2023], [2.5, 2023], [1.5, 2024], [2.5, 2024]]


def test_a_gpu_is_not_sent_to_a_store_for_files(store: S3Server) -> None:
    store.put("/box/plain.parquet", parquet())
    data, secrets = DataSpec("s3://box/plain.parquet"), DataSecrets(store=store.secrets)
    columns = open_columns(data, table_files(data, secrets))
    assert isinstance(columns, ParquetColumns)
    assert columns.plain_files(["a"]) is None


def test_spark_reads_hadoops_own_scheme_itself() -> None:
    assert spark_opens_store(cast(Any, None), DataSpec("s3a://box/t.csv"))
    assert not spark_opens_store(cast(Any, None), DataSpec("/data/t.csv"))


def test_without_a_connection_a_worker_uses_what_its_machine_has(
    store: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    assert read_table(DataSpec("s3://box/t.csv")).num_rows == 4


ABSENT = {
    "s3://box/none.csv": "'s3://box/none.csv' does not exist in bucket 'box': correct data.path",
    "s3://box/none-*.csv": "matches no file in bucket 'box'",
    "s3://empty": "holds no file",
    "s3://nowhere/t.csv": "there is no bucket 'nowhere' in this store",
    "s3://": "names no bucket: write s3://<bucket>/<key>",
    "abfss://box/t.csv": "names no storage account: write abfss://<container>@<account>",
}


@pytest.mark.parametrize("path", ABSENT)
def test_what_is_not_there_is_one_sentence(store: S3Server, path: str) -> None:
    assert ABSENT[path] in refusal(store, path)


@pytest.mark.parametrize("place", [f"{KEY}:{HUSH}@box", f"{HUSH}@box", "box:9000"])
@pytest.mark.attack("data sources", "a login in the address of a store", times=3)
def test_an_address_with_a_login_is_refused(store: S3Server, place: str) -> None:
    assert "name the Airflow connection in data.connection" in refusal(store, f"s3://{place}/t.csv")


def test_files_of_two_stores_are_no_table(store: S3Server) -> None:
    for other in ("/data/t.csv", "gs://box/t.csv"):
        assert f"must list files of one store, got s3://box/t.csv and {other}" in refusal(
            store, ("s3://box/t.csv", other)
        )


@pytest.mark.parametrize("path", ["s3://box/t.csv", "s3://box/many", "s3://box/many/part-*.csv"])
def test_a_denied_bucket_is_one_sentence(store: S3Server, path: str) -> None:
    with store.denying():
        text = refusal(store, path)
    assert re.search(r"the store denies access \([A-Z_]+\): give whoever reads it the right to list the bucket", text)


def test_access_that_ends_while_files_are_read_is_the_same_sentence(store: S3Server) -> None:
    data, secrets = DataSpec("s3://box/t.csv"), DataSecrets(store=store.secrets)
    files = table_files(data, secrets)
    with store.denying(), pytest.raises(DataError, match=r"cannot read s3://box/t.csv as csv: the store denies access"):
        open_columns(data, files)


def test_a_store_that_does_not_answer_is_given_up(store: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(opening, "_ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        secrets = {**store.secrets, "endpoint_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with pytest.raises(DataError, match=r"the store does not answer in time \(NETWORK_CONNECTION\): start the run"):
            read_table(DataSpec("s3://box/t.csv"), DataSecrets(store=secrets))
    with pytest.raises(DataError, match=r"the store cannot be reached \(NETWORK_CONNECTION\): correct its address"):
        read_table(DataSpec("s3://box/t.csv"), DataSecrets(store=secrets))


def test_a_table_that_changed_since_the_run_began_is_refused(store: S3Server) -> None:
    store.put("/changing/run.csv", TEXT)
    data = DataSpec("s3://changing/run.csv")
    seen = seen_version(data, DataSecrets(store=store.secrets))
    assert read(store, "s3://changing/run.csv", seen).num_rows == 4
    # As long as before, and mostly in the same second: only its ETag is another.
    store.put("/changing/run.csv", TEXT.replace("7,8", "9,9"))
    with pytest.raises(DataError, match=r"s3://changing/run.csv has changed since the run began.*start the run again"):
        read(store, "s3://changing/run.csv", seen)


def test_another_file_in_the_folder_is_a_change(store: S3Server) -> None:
    store.put("/changing/more/1.csv", TEXT)
    seen = seen_version(DataSpec("s3://changing/more"), DataSecrets(store=store.secrets))
    store.put("/changing/more/2.csv", TEXT)
    with pytest.raises(DataError, match="has changed since the run began"):
        read(store, "s3://changing/more", seen)


@pytest.mark.parametrize("content", [TEXT.replace("7,8", "9,9"), "a,a\n1,2\n"])
def test_a_table_that_changes_while_it_is_read_is_refused(store: S3Server, content: str) -> None:
    store.put("/changing/read.csv", TEXT)
    data, secrets = DataSpec("s3://changing/read.csv"), DataSecrets(store=store.secrets)
    files, changed = table_files(data, secrets), "has changed since this worker began to read"

    def read_another() -> None:
        with held_still(data, files, secrets):
            store.put("/changing/read.csv", content)
            open_columns(data, files)  # of the second content it raises an error of its own

    with pytest.raises(DataError, match=changed):
        read_another()


def test_a_worker_that_lives_on_reads_a_new_version(store: S3Server) -> None:
    store.put("/changing/kept.csv", TEXT)
    assert read(store, "s3://changing/kept.csv").num_rows == 4
    store.put("/changing/kept.csv", TEXT + "9,9\n")
    assert read(store, "s3://changing/kept.csv").num_rows == 5


def test_a_digest_is_checked_in_the_store(store: S3Server) -> None:
    assert read(store, "s3://box/t.csv", sha256=hashlib.sha256(TEXT.encode()).hexdigest()).num_rows == 4
    assert "s3://box/t.csv must have sha256 000" in refusal(store, "s3://box/t.csv", sha256="0" * 64)
    assert "sha256 is for one file" in refusal(store, "s3://box/many", sha256="0" * 64)


def test_names_of_files_stay_unsaid_where_the_path_came_from_a_form(store: S3Server) -> None:
    store.put("/box/private/secret-name.csv", "")
    text = refusal(store, "s3://box/private", names_in_errors=False)
    assert "file 1 of s3://box/private is empty" in text
    assert "secret-name" not in text


def test_a_store_gives_no_file_of_this_machine() -> None:
    with pytest.raises(DataError, match="is in an object store, and data_file"):
        data_file(DataSpec("s3://box/t.csv"))


def test_other_stores_are_opened_without_a_request() -> None:
    path = "abfss://box@acct.dfs.core.windows.net/year=1/t.csv"
    assert open_store(path, {"account_key": "aGk="}).type_name == "abfs"
    assert open_store("gs://box/t.csv", {}).type_name == "gcs"
    assert inner_path(path) == "box/year=1/t.csv"
    assert outer_path(path, "box/year=1/t.csv") == path


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://minio.example.org:9000", None),
        ("http://127.0.0.1:9000", None),
        ("http://localhost:9000", None),
        ("http://[::1]:9000", None),
        ("http://minio.example.org:9000", "must be https://"),
        ("http://127.0.0.1.example.org", "must be https://"),
        ("https://key:hush@minio.example.org", "without a login"),
        ("minio:9000", "must be https://<host>"),
        ("http://[::1", "is no URL"),
    ],
)
@pytest.mark.attack("data sources", "keys of a store over a plain connection", times=9)
def test_keys_go_over_https_or_stay_on_this_machine(url: str, problem: str | None) -> None:
    found = problem_of_endpoint(url)
    assert found is None if problem is None else problem in str(found)


def test_a_connections_keys_do_not_follow_a_plain_address_of_the_machine(
    store: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example.org")
    secrets = {name: value for name, value in store.secrets.items() if name != "endpoint_url"}
    with pytest.raises(DataError, match="endpoint_url of the store must be https://"):
        read_table(DataSpec("s3://box/t.csv"), DataSecrets(store=secrets))


ANSWERS = {
    "When x: AWS Error SLOW_DOWN during GetObject operation: hush": "does not answer in time (SLOW_DOWN)",
    "AWS Error UNKNOWN (HTTP status 301) during HeadObject operation: hush": "in another region (UNKNOWN (HTTP status",
    "GetProperties for 'hush' failed. Azure Error: [AuthorizationFailure] 403 hush": "denies access (Authorization",
    "Azure Error: [ContainerNotFound] 404 hush": "has nothing of that name (ContainerNotFound)",
    "google::cloud::Status(PERMISSION_DENIED: hush)": "denies access (PERMISSION_DENIED)",
    "google::cloud::Status(UNAVAILABLE: hush)": "does not answer in time (UNAVAILABLE)",
    "hush": "",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_answers_of_stores_become_our_own_words(answer: str) -> None:
    words = store_words(OSError(answer))
    assert ANSWERS[answer] in words
    assert "hush" not in words
