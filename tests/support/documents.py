"""What README.md and the pages of docs/ say, in parts that tests can hold against the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from init.local.layout import REPOSITORY

DOCS = REPOSITORY / "docs"
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def nav_pages() -> dict[str, str]:
    """The pages of the site's menu: title by path, as mkdocs.yml names it."""

    def walk(entries: list[Any]) -> Iterator[tuple[str, str]]:
        for entry in entries:
            ((title, inside),) = entry.items()
            if isinstance(inside, str):
                yield inside, title
            else:
                yield from walk(inside)

    return dict(walk(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code of one language."""
    return [block for name, block in _FENCED.findall(text) if name == language]


def command_lines(text: str) -> list[str]:
    """Every command that a document shows: the lines of its shell blocks, and its code spans. Without comments."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines] + code_spans(text)


def prose(text: str) -> str:
    """A document without its blocks of code."""
    return _FENCED.sub("", text)


def code_spans(text: str) -> list[str]:
    """What stands between backticks outside of blocks of code."""
    return [span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(text))]


def table_rows(text: str, heading: str) -> list[str]:
    """The first cell's code span of each row below a heading, up to the next heading."""
    section = re.split(rf"^## {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
    return re.findall(r"^\| `([^`]+)` \|", re.split(r"^## ", section, flags=re.MULTILINE)[0], re.MULTILINE)


def undescribed(found: Mapping[str, Any], heading: str) -> str:
    """A sentence about the names that docs/exports.md does not have below a heading; empty if it has all."""
    known = table_rows(Path(DOCS, "exports.md").read_text(encoding="utf-8"), heading)
    missing = [name for name in found if name not in known]
    return f"docs/exports.md has no row for {', '.join(missing)} below {heading!r}" if missing else ""
