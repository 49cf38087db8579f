"""A run is its DAG, its run id and the moment it was made."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tuning_pipeline.failures import TaskError
from tuning_pipeline.runs.identity import RunIdentity, _checked

MADE = "2026-11-27T11:13:13.247611+00:00"


def test_runs_that_differ_in_one_of_the_three_have_different_keys() -> None:
    runs = [
        RunIdentity("a", "r", MADE),
        RunIdentity("b", "r", MADE),
        RunIdentity("a", "q", MADE),
        RunIdentity("a", "r", MADE.replace("13.2", "13.3")),
    ]
    assert len({run.key for run in runs}) == 4


def test_a_key_begins_with_the_run_id() -> None:
    assert re.fullmatch(r"r\.[0-9a-f]{8}", RunIdentity("a", "r", MADE).key)


def test_a_run_that_an_earlier_version_began_keeps_its_trials() -> None:
    assert RunIdentity("a", "r").key == "r"


@pytest.mark.parametrize("forged", ["yesterday", 7, {"a": 1}, f"{MADE}\n", ""])
def test_a_forged_moment_is_refused(forged: Any) -> None:
    with pytest.raises(TaskError, match="no longer what the task noted"):
        _checked(forged)
