"""`make docs`: a site that holds together, can be searched, and asks nobody for anything."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from init.local.docs import build_site
from init.local.errors import SetupError
from init.local.layout import REPOSITORY, Layout
from tests.support.browser import browser
from tests.support.servers import scratch_folder

# What a browser fetches by itself, unlike the links that a reader follows.
FETCHED = re.compile(r"<(?:(?:script|img|iframe)\b[^>]*\bsrc|link\b[^>]*\bhref)=\"((?:https?:)?//[^\"]*)")

# What a page has fetched once its scripts have run.
ADDRESSES = "return [...document.querySelectorAll('script, link, img')].map((e) => e.src || e.href).filter(Boolean)"


@pytest.fixture(scope="module")
def layout() -> Iterator[Layout]:
    """A checkout of this repository's files, with a state folder of its own."""
    with scratch_folder() as folder:
        for path in REPOSITORY.iterdir():
            if not path.name.startswith(".") and path.name not in ("docs", "mkdocs.yml", "exports", "dist"):
                (folder / path.name).symlink_to(path)
        shutil.copytree(REPOSITORY / "docs", folder / "docs")
        shutil.copy(REPOSITORY / "mkdocs.yml", folder)
        found = Layout(folder)
        found.state.mkdir()
        found.tools.symlink_to(Layout(REPOSITORY).tools)
        yield found


@pytest.fixture(scope="module")
def site(layout: Layout) -> Path:
    return build_site(layout).parent


@pytest.mark.slow
def test_the_site_is_whole(site: Path) -> None:
    for page in ("index.html", "exports.html", "files/CHANGELOG.html", "exports.md", "llms.txt", "images/study.png"):
        assert (site / page).exists()
    for link in re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", (site / "llms.txt").read_text(), re.MULTILINE):
        assert (site / link).exists()


@pytest.mark.slow
def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert {match[1] for page in pages for match in FETCHED.finditer(page.read_text())} == set()


@pytest.mark.slow
def test_pages_that_are_opened_as_files_can_be_searched(site: Path) -> None:
    with browser(site.as_uri()) as opened:
        opened.open("/exports.html")
        field = opened.find("input[data-md-component=search-query]")
        opened.driver.execute_script("arguments[0].focus()", field)
        field.send_keys("best_trials")
        opened.find(".md-search-result__item a[href*='exports.html']")
        addresses = opened.driver.execute_script(ADDRESSES)
        assert len(addresses) > 3
        assert [address for address in addresses if not address.startswith("file:")] == []


@pytest.mark.slow
def test_what_is_wrong_with_a_page_is_named(layout: Layout) -> None:
    config = yaml.safe_load((layout.root / "mkdocs.yml").read_text())
    docs = layout.root / "wrong"
    docs.mkdir()
    (docs / "index.md").write_text("# Home\n\n[a](nope.md) [b](other.md#nope) [c](../nope.py) [d](/x)\n\nThese:\n- e\n")
    (docs / "other.md").write_text("# Other\n\n```mermaid\nflowchart\n```\n")
    config |= {"docs_dir": "wrong", "nav": [{"Home": "index.md"}, {"Gone": "gone.md"}]}
    file = layout.root / "mkdocs.yml"
    before = file.read_text()
    try:
        file.write_text(yaml.safe_dump(config))
        with pytest.raises(SetupError, match=r"Aborted with \d+ warnings in strict mode"):
            build_site(layout)
    finally:
        file.write_text(before)
    said = (layout.logs / "docs.log").read_text()
    for part in ("'nope.md'", "'#nope'", "'../nope.py'", "'/x'", "a list is not taken as one", "mermaid", "gone.md"):
        assert part in said
    assert re.search(r"not included in the \"nav\" configuration:\s+- other.md", said)
