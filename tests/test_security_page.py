"""SECURITY.md names tests that exist."""

from __future__ import annotations

import re

import pytest

from init.local.layout import REPOSITORY

PAGE = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
TESTS = sorted((REPOSITORY / "tests").rglob("test_*.py"))
NAMED = re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", PAGE)


def test_every_promise_names_a_test() -> None:
    promises = PAGE.partition("the test that shows it")[2].partition("## ")[0]
    rows = [row for row in promises.splitlines() if row.startswith("| ")][2:]
    assert len(rows) > 10
    assert [row for row in rows if "::test_" not in row] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_it_names_are_there(file: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (REPOSITORY / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_attack_has_its_row_in_the_table() -> None:
    """`make attacks` writes the table; it takes an hour, so a new attack is easily forgotten."""
    marked = {found for file in TESTS for found in re.findall(r'mark\.attack\(\s*"(.+?)",\s*"(.+?)"', file.read_text())}
    rows = {tuple(cell.strip() for cell in line.split(" | ")[:2]) for line in PAGE.splitlines()}
    assert len(marked) > 100
    assert sorted(f"| {where} | {tried}" for where, tried in marked if (f"| {where}", tried) not in rows) == []
