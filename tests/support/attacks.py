"""The table of attacks in SECURITY.md: tests marked as attacks, counted as they run.

    @pytest.mark.attack("the wire", "frames forged by a proxy", times=200)

A pytest plugin (tests/conftest.py names it): with `--attacks FILE` it writes one JSON line for each such test. As a
program it prints the table from these files: python -m tests.support.attacks FILE...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MARKER = "attack(where, tried, times=1): tries to break in; SECURITY.md's table counts the tries"


@dataclass(frozen=True)
class Attack:
    """One kind of attempt.

    Attributes:
        where: What is attacked: "trigger", "data sources", "TLS to MySQL", "the wire", "a shared machine", "the pages".
        tried: What was tried, as the table says it.
        times: How often one run of the test tries it.
    """

    where: str
    tried: str
    times: int = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--attacks", metavar="FILE", help="append what was attacked, and how it ended, to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _write_down(item, report)
    return report


def _write_down(item: pytest.Item, report: pytest.TestReport) -> None:
    marker, file = item.get_closest_marker("attack"), item.config.getoption("--attacks")
    ended = report.when == "call" or (report.when == "setup" and not report.passed)
    if marker is None or file is None or not ended:
        return
    attack = Attack(*marker.args, **marker.kwargs)
    line = {"where": attack.where, "tried": attack.tried, "times": attack.times, "outcome": report.outcome}
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")


def table(lines: Iterable[dict[str, Any]]) -> str:
    """A Markdown table, one row for each kind of attempt.

    Raises:
        ValueError: No line was given, so nothing was tried.
    """
    rows: dict[tuple[str, str], dict[str, int]] = {}
    for line in lines:
        row = rows.setdefault((line["where"], line["tried"]), {"passed": 0, "failed": 0, "skipped": 0})
        row[line["outcome"]] += line["times"]
    if not rows:
        raise ValueError("no attack was tried")
    text = ["| Where | Tried | Times | Held |", "| --- | --- | --- | --- |"]
    for (where, tried), counts in sorted(rows.items()):
        text.append(f"| {where} | {tried} | {counts['passed'] + counts['failed']} | {_held(counts)} |")
    return "\n".join(text)


def _held(counts: dict[str, int]) -> str:
    if counts["failed"]:
        return f"**no: {counts['failed']} times**"
    return "yes" if counts["passed"] else "not tried here"


def main(files: list[str]) -> int:
    lines = [json.loads(line) for file in files for line in Path(file).read_text(encoding="utf-8").splitlines()]
    print(table(lines))  # noqa: T201 - the table is what this program is for
    return int(any(line["outcome"] == "failed" for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
