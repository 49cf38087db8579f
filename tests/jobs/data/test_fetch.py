"""Tables behind a URL, served by a real HTTP server on the loopback interface."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from optuna_spark.data.files.fetch import cache_folder, cached_path
from optuna_spark.data.sources import local_file
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from tests.support.waiting import join

TEXT = b"a,y\n1,2\n3,4\n5,6\n7,8\n"


class Site(http.server.ThreadingHTTPServer):
    """Serves a folder and counts the requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        self.requests: list[str] = []

    def spec(self, name: str, sha256: str | None = None) -> DataSpec:
        return DataSpec(
            f"http://127.0.0.1:{self.server_port}/{name}", sha256=sha256 or hashlib.sha256(TEXT).hexdigest()
        )


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Site)
        self.server.requests.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("TUNING_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "my table.csv").write_bytes(TEXT)
    server = Site(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    join(thread)
    server.server_close()


def test_a_url_is_fetched_once(site: Site) -> None:
    spec = site.spec("my%20table.csv")
    path = local_file(spec)
    assert path.read_bytes() == TEXT
    assert path.name.endswith("my table.csv")
    assert local_file(spec) == path
    assert len(site.requests) == 1


def test_workers_that_start_together_fetch_once(site: Site) -> None:
    spec = site.spec("my%20table.csv")
    threads = [threading.Thread(target=local_file, args=(spec,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    join(*threads)
    assert len(site.requests) == 1


def test_another_content_than_the_digest_says_is_refused_and_not_kept(site: Site) -> None:
    spec = site.spec("my%20table.csv", sha256="f" * 64)
    with pytest.raises(DataError, match=r"http://.* must have sha256 f{64}, got .*: .*correct data.sha256"):
        local_file(spec)
    assert not cached_path(spec).exists()
    assert [p.suffix for p in cache_folder().iterdir()] == [".lock"]


def test_an_address_that_answers_with_an_error_says_what_to_do(site: Site) -> None:
    spec = site.spec("none.csv")
    with pytest.raises(
        DataError, match=r"cannot fetch .*none.csv \(.*\): download it by hand and save it as"
    ) as caught:
        local_file(spec)
    assert str(cached_path(spec)) in str(caught.value)


def test_an_address_that_cannot_be_reached_says_what_to_do(site: Site) -> None:
    spec = DataSpec("http://127.0.0.1:9/table.csv", sha256="0" * 64)
    with pytest.raises(DataError, match=r"cannot fetch http://127.0.0.1:9/table.csv .*or set data.path to a copy"):
        local_file(spec)


def test_a_file_saved_by_hand_is_used(site: Site) -> None:
    spec = DataSpec("http://127.0.0.1:9/table.csv", sha256=hashlib.sha256(TEXT).hexdigest())
    cached_path(spec).write_bytes(TEXT)
    assert local_file(spec).read_bytes() == TEXT


def test_a_file_broken_after_the_download_is_noticed(site: Site) -> None:
    spec = site.spec("my%20table.csv")
    local_file(spec).write_bytes(b"broken")
    with pytest.raises(DataError, match="replace it"):
        local_file(spec)


def test_without_a_state_folder_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TUNING_STATE", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder().parent == tmp_path
    assert cache_folder().stat().st_mode & 0o077 == 0
