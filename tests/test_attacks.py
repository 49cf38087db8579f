"""The table of attacks says what its tests found, and nothing else."""

from __future__ import annotations

import pytest

from tests.support.attacks import table


def line(tried: str, outcome: str = "passed", times: int = 1) -> dict[str, object]:
    return {"where": "the wire", "tried": tried, "times": times, "outcome": outcome}


def test_tries_of_one_kind_are_added_up() -> None:
    text = table([line("a forged frame", times=3), line("a forged frame", times=4)])
    assert text.splitlines()[-1] == "| the wire | a forged frame | 7 | yes |"


def test_one_failure_shows_however_many_held() -> None:
    text = table([line("a forged frame", times=3), line("a forged frame", "failed")])
    assert text.splitlines()[-1] == "| the wire | a forged frame | 4 | **no: 1 times** |"


def test_what_was_skipped_is_not_called_held() -> None:
    text = table([line("a forged frame", "skipped")])
    assert text.splitlines()[-1] == "| the wire | a forged frame | 0 | not tried here |"


def test_a_table_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no attack was tried"):
        table([])
