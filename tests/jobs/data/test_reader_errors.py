"""A run may have been given a path by its form: no error, card or log line says what stands in that file."""

from __future__ import annotations

import http.server
import itertools
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from optuna_spark.data.load import forget_datasets, load_dataset
from optuna_spark.data.sources import local_file
from optuna_spark.device import Device
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_keys import Distribution
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.worker.worker import complete, run_trial
from tests.support.submit import submit

CPU = Device("cpu", None, 1)
SECRETS = {
    "env": "DATABASE_PASSWORD=corvid-battery\nAPI_TOKEN=zebra-quartz-9731\nEMPTY=\nexport LAST=xylophone\n",
    "csv": "username,passphrase\nroot,corvid-battery\nadmin,zebra-quartz-9731\nann,xylophone\nbob,violoncello\n",
    "ragged": "username,passphrase\nroot,corvid-staple\nzebra,quartz-9731,xylophone\n1,2\n3,4\n5,6\n",
    "infinite": "xylophone,violoncello\n1,2718281828\n3141592653,inf\n5,1414213562\nzebra,1618033988\n7,8\n",
    "labels": "1,violoncello\n2,xylophone\n3,zebra-quartz\n4,corvid-staple\n5,battery-staple\n6,\n",
    "passwd": "root:x:0:0:administrator:/root:/bin/zsh-xylophone\nmail:x:1:1:violoncello:/usr:/bin/nologin\n" * 3,
    "json": '{"DATABASE_PASSWORD": "corvid-battery", "token": {"zebra-quartz": [1, 2]}}\n' * 5,
    "pem": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nAoIBAQDZebra9731xylophone\n-----END\n",
    "broken": "user\xe9,passphrase\nroot,corvid-\xffhorse\nzebra,xylophone\n1,2\n3,4\n",
}
WORDS = re.compile(r"[A-Za-z0-9_]{6,}")


def quoted(text: str, content: str) -> set[str]:
    """The words of a file that stand in a text."""
    return {word for word in WORDS.findall(content) if re.search(rf"(?<![A-Za-z0-9_]){word}", text)}


def spec_of(path: Path, **changes: str | None) -> DataSpec:
    return DataSpec(str(path), names_in_errors=False, **changes)  # type: ignore[arg-type]  # each of its own type


def said(error: BaseException) -> str:
    """An error as a log shows it: with every error behind it."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{error!r} {said(behind) if behind else ''}"


@pytest.fixture(params=SECRETS)
def secret(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    path, content = tmp_path / "s", SECRETS[request.param]
    path.write_bytes(content.encode("latin-1"))
    return path, content


TRIES = list(itertools.product(",;:= \t", ("regression", "binary", "multiclass"), ("csv", "parquet"), (None, "none")))


@pytest.mark.attack("the trigger", "a table that is a file of secrets, read by a worker", times=len(TRIES))
def test_a_worker_that_reads_a_file_of_secrets_quotes_none(secret: tuple[Path, str]) -> None:
    path, content = secret
    for separator, task, kind, label in TRIES:
        forget_datasets()
        told = refusal(spec_of(path, separator=separator, format=kind, label=label), task)
        assert quoted(told, content) == set(), (separator, task, kind, label)


def refusal(data: DataSpec, task: str) -> str:
    """Why a table is refused; nothing where it can be trained on."""
    try:
        load_dataset(data, task, CPU)
    except DataError as error:
        return said(error)
    return ""


def test_an_authors_own_table_has_its_columns_named_but_no_value(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("size,price\n" + "1,xylophone\n" * 5)
    with pytest.raises(DataError, match=r"column 'price' of .* must hold numbers, got a value of type string in row 1"):
        load_dataset(DataSpec(str(path)), "regression", CPU)
    with pytest.raises(
        DataError, match=r"column 2 of .* must hold numbers, got a value of type string in row 1 \(str\)"
    ):
        load_dataset(spec_of(path), "regression", CPU)


@pytest.mark.attack("the trigger", "the digest of a file of secrets")
def test_a_digest_that_does_not_fit_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("4711")
    with pytest.raises(DataError, match="got another: the file is another version"):
        local_file(spec_of(path, sha256="0" * 64))


class Talker(http.server.BaseHTTPRequestHandler):
    """A service inside that says what it is."""

    def do_GET(self) -> None:
        self.send_response(500, "xylophone of the inner network")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def talker() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Talker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.attack("the trigger", "the answer of an address inside")
def test_what_an_address_answers_is_not_told(talker: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNING_STATE", str(tmp_path))
    data = DataSpec(f"http://127.0.0.1:{talker}/x", sha256="0" * 64, names_in_errors=False)
    with pytest.raises(DataError, match=r"cannot fetch .* \(status 500 Internal Server Error\)") as caught:
        local_file(data)
    assert "xylophone" not in said(caught.value)


@pytest.mark.attack("the trigger", "an objective that quotes the file it reads", times=2)
def test_an_objective_that_quotes_what_it_reads_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    class Trial:
        number = 1

    def quoting(_trial: object) -> float:
        raise KeyError("xylophone")

    for objective in (quoting, lambda _: "xylophone"):
        error = run_trial(objective, Trial(), 1, quotes=False).error
        assert error is not None
        assert "xylophone" not in error + caplog.text
    assert "xylophone" in str(run_trial(quoting, Trial(), 1).error)
    assert "xylophone" in str(complete("xylophone", 1).error)


READERS: list[tuple[Distribution, str]] = [("rdd", "csv"), ("joblib", "parquet"), ("dataframe", "csv")]
READERS += [("dataframe", kind) for kind in ("json", "parquet", "orc")]


def run_spec_of(path: Path, distribution: Distribution, kind: str) -> TuningSpec:
    data = spec_of(path, format=kind)
    return TuningSpec(
        "s", objective="xgboost", data=data, distribution=distribution, trials=1, run_id=f"{distribution}-{kind}"
    )


@pytest.mark.slow
@pytest.mark.attack("the trigger", "a table that is a file of secrets, in a job on Spark", times=len(READERS))
def test_a_job_that_reads_a_file_of_secrets_prints_none(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    content = SECRETS["csv"] + SECRETS["env"]
    path = tmp_path / "s"
    path.write_text(content)
    specs = [run_spec_of(path, distribution, kind).to_json() for distribution, kind in READERS]
    done = submit(
        spark_cluster.master_url,
        tmp_path,
        specs,
        program=REPOSITORY / "tests" / "jobs" / "every_reader.py",
        OPTUNA_STORAGE_URL=f"sqlite:///{tmp_path}/study.sqlite3",
    )
    cards = dict(re.findall(r"^card of (\S+): (.*)$", done.stdout, re.MULTILINE))
    assert {run: json.loads(card)["error"] for run, card in cards.items()} == {
        f"{distribution}-{kind}": "DataError" for distribution, kind in READERS
    }, done.stdout[-3000:]
    assert quoted(done.stdout, content) == set()
    # Spark prints the bytes at the end of what is no Parquet as numbers.
    assert ", ".join(map(str, content.encode()[-4:])) not in done.stdout
