"""SECURITY.md names tests that exist."""

from __future__ import annotations

import re

import pytest

from init.local.layout import REPOSITORY

PAGE = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", PAGE)


def test_every_promise_names_a_test() -> None:
    promises = PAGE.partition("the test that shows it")[2].partition("## ")[0]
    rows = [row for row in promises.splitlines() if row.startswith("| ")][2:]
    assert len(rows) > 10
    assert [row for row in rows if "::test_" not in row] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_it_names_are_there(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE)
