"""The committer's looks for requests to the run: what the log says of a database that cannot be asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from optuna_spark.errors import StorageError
from optuna_spark.storage import group_commit
from optuna_spark.storage.group_commit import Committer
from optuna_spark.storage.study_writer import NONE
from optuna_spark.storage.trial_record import TrialRecord
from tests.support.waiting import wait_until


class Nowhere:
    """A writer that nothing is written with here."""

    def write(
        self, records: list[TrialRecord], study_attrs: Mapping[str, Any], user_attrs: Mapping[str, Any] = NONE
    ) -> None:
        raise AssertionError


class Looks:
    """A look that fails as long as nobody mends it."""

    def __init__(self) -> None:
        self.count, self.fails = 0, True

    def __call__(self) -> None:
        self.count += 1
        if self.fails:
            raise StorageError("the writer has died")

    def more(self) -> None:
        known = self.count
        wait_until(lambda: self.count > known + 3, "more looks")


@contextmanager
def looking() -> Iterator[Looks]:
    looks = Looks()
    committer = Committer(Nowhere(), lambda _: StorageError("x"), lambda _: None, looks)
    try:
        yield looks
    finally:
        committer.close()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(group_commit, "LOOK_S", 0.005)
    caplog.set_level(logging.INFO, group_commit.__name__)
    return caplog


def test_a_database_that_cannot_be_asked_is_one_line(lines: pytest.LogCaptureFixture) -> None:
    with looking() as looks:
        looks.more()
    assert lines.messages == ["The database could not be asked for requests to this run: the writer has died"]


def test_a_later_line_says_since_when(lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "SAY_S", 0.0)
    with looking() as looks:
        looks.more()
        looks.fails = False
        looks.more()
        said = len(lines.messages)
        looks.fails = True
        looks.more()
    assert ", for 0 s: the writer has died" in lines.messages[1]
    assert ", for" not in lines.messages[said], "it was well in between"
