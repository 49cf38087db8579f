"""What a package index or a reader of releases would see: versions and the change log say the same."""

from __future__ import annotations

import re
import tomllib
from datetime import date

import pytest

from init.local.layout import REPOSITORY

# Keep a Changelog's kinds of changes, in its order.
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
SECTIONS = re.split(r"^## ", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
RELEASES = [re.match(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)\n", section) for section in SECTIONS[1:]]


def test_the_version_is_that_of_the_newest_section() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert RELEASES[0]
    assert RELEASES[0][1] == project["version"]


def test_releases_have_a_version_and_a_date_and_stand_below_what_is_not_released() -> None:
    assert SECTIONS[0].startswith("[Unreleased]\n")
    assert all(RELEASES)
    dates = [date.fromisoformat(release[2]) for release in RELEASES if release]
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_a_section_has_each_kind_of_change_once_in_order(section: str) -> None:
    kinds = re.findall(r"^### (.*)", section, re.MULTILINE)
    assert kinds == [kind for kind in KINDS if kind in kinds]
