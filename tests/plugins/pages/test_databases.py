"""The databases behind the pages: one that hangs holds up no other, and what is replaced is closed."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.connections import set_connection
from tests.support.waiting import wait_until
from tuning_pipeline.pages.databases import Databases


def sqlite(patch: pytest.MonkeyPatch, conn_id: str, file: Path) -> None:
    set_connection(patch, conn_id, conn_type="sqlite", host=str(file))


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """A database that takes connections, and then lets every query wait."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def is_within(thread: threading.Thread, function: str) -> bool:
    """Whether a thread is in a call of a function of this name."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def open_files(file: Path) -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            found += descriptor.readlink() == file
    return found


def test_a_database_that_hangs_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite(monkeypatch, "slow_db", tmp_path / "slow.sqlite3")
    sqlite(monkeypatch, "quick_db", tmp_path / "quick.sqlite3")
    databases = Databases()
    slow = threading.Thread(target=databases.of_study, args=("slow_db",))
    quick = threading.Thread(target=databases.of_study, args=("quick_db",), daemon=True)
    with locked(tmp_path / "slow.sqlite3"):
        slow.start()
        wait_until(lambda: is_within(slow, "create_storage"))
        quick.start()
        quick.join(30)
        answered = not quick.is_alive()
    slow.join()
    quick.join()
    assert answered


def test_a_changed_connection_leaves_none_to_the_old_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    databases, old, new = Databases(), tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    sqlite(monkeypatch, "some_db", old)
    board = databases.of_study("some_db")
    board.storage.get_all_studies()
    assert databases.of_study("some_db") is board
    assert open_files(old) > 0
    sqlite(monkeypatch, "some_db", new)
    assert databases.of_study("some_db") is not board
    assert open_files(old) == 0
