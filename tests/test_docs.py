"""README.md and docs/ name what is there: commands, files, pages, links."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from tests.support.documents import DOCS, DOCUMENTS, blocks, code_spans, command_lines, nav_pages, prose
from tests.support.programs import run_program
from tuning_pipeline.commands.__main__ import main

MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))
SETTINGS = set(re.findall(r"^override SETTINGS := (.*)", MAKEFILE, re.MULTILINE)[0].split())
# A command begins a line, or follows `VARIABLE=value` or a shell's `$(`.
_BEGIN = r"(?:^|^\w+=\S+ |\()"
_MAKE = re.compile(_BEGIN + r"make(?: -\w+)* ([a-z0-9-]+)((?: [A-Z_]+=(?:\"[^\"]*\"|\S+))*)")
_TUNING = re.compile(_BEGIN + r"tuning ([a-z-]+)((?: [^\s)|\"]+)*)")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")

# Where a path of a page may begin: a checkout, or one of the two packages (`driver/server.py`).
ROOTS = [REPOSITORY, REPOSITORY / "jobs" / "optuna_spark", REPOSITORY / "plugins" / "tuning_pipeline"]
FIRST = {
    folder.name for root in ROOTS for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")
}
# What pages call so and is no file of the repository: a path of Databricks' API.
ELSEWHERE = {"jobs/runs/list"}
# Studies that a page lets its reader write.
READERS_OWN = {"mine", "prices", "forest", "houses"}

PAGES = [pytest.param(path, id=str(path.relative_to(REPOSITORY))) for path in [*DOCUMENTS, REPOSITORY / "SECURITY.md"]]


def calls(command: re.Pattern[str], page: Path) -> Iterator[tuple[str, str]]:
    """The calls of a command that a page shows: its first argument, and the others."""
    for line in command_lines(page.read_text(encoding="utf-8")):
        yield from command.findall(line)


@pytest.mark.parametrize("page", PAGES)
def test_a_target_of_make_is_there_and_takes_these_settings(page: Path) -> None:
    for target, settings in calls(_MAKE, page):
        assert target in TARGETS, f"make {target}: no such target in the Makefile"
        unknown = set(re.findall(r" ([A-Z_]+)=", settings)) - SETTINGS
        assert not unknown, f"make {target}: the Makefile has no setting {', '.join(unknown)}"


@pytest.mark.parametrize("page", PAGES)
def test_a_study_that_is_run_is_there(page: Path) -> None:
    there = {path.stem for folder in ("dags/studies", "examples") for path in (REPOSITORY / folder).glob("*.yaml")}
    for target, settings in calls(_MAKE, page):
        for study in re.findall(r" STUDY=([\w-]+)", settings):
            assert study in there | READERS_OWN, f"make {target}: no study file {study}"


@pytest.mark.parametrize("page", PAGES)
def test_a_command_of_tuning_is_there_with_these_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, rest in calls(_TUNING, page):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0, f"tuning {command}: no such command"
        known = capsys.readouterr().out
        assert [option for option in re.findall(r"--[a-z-]+", rest) if option not in known] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_module_that_is_run_is_there(page: Path) -> None:
    for line in command_lines(page.read_text(encoding="utf-8")):
        for module in re.findall(r"python3? -m ([\w.]+)", line):
            assert importlib.util.find_spec(module) is not None, f"python -m {module}: no such module"


@pytest.mark.parametrize("page", PAGES)
def test_pip_is_told_that_a_lock_leaves_packages_out(page: Path) -> None:
    """Without --no-deps pip asks for hashes of what is not in the lock, and ends."""
    for line in command_lines(page.read_text(encoding="utf-8")):
        for name in re.findall(r"pip install .*-r (requirements/[\w-]+\.txt)", line):
            left_out = "packages were excluded" in (REPOSITORY / name).read_text(encoding="utf-8")
            assert not left_out or "--no-deps" in line, f"{line}: {name} leaves packages out, so pip needs --no-deps"


def paths(text: str) -> Iterator[str]:
    """What a page's code spans and shell commands name, and looks like a path of the repository."""
    words = [word for block in blocks(text, "sh") for word in block.split()]
    for word in [*code_spans(text), *words]:
        if _PATH.fullmatch(word) and "/" in word and word.split("/")[0] in FIRST and word not in ELSEWHERE:
            yield word


def is_there(path: str) -> bool:
    if path.startswith(("exports/", "benchmarks/results/")) and not path.endswith(".py"):
        return True  # what runs write
    if path.startswith("dags/studies/") and Path(path).stem in READERS_OWN:
        return True
    return any((root / path).exists() or (root / f"{path}.py").exists() for root in ROOTS)


@pytest.mark.parametrize("page", PAGES)
def test_a_path_is_there(page: Path) -> None:
    assert [path for path in paths(page.read_text(encoding="utf-8")) if not is_there(path)] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)", prose(page.read_text(encoding="utf-8")))
    assert [link for link in links if ":" not in link and not (page.parent / link).exists()] == []


def test_every_page_is_in_the_menu_of_the_site_and_every_entry_is_a_page() -> None:
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    entries = {page for page in nav_pages() if not page.startswith("files/")}
    assert pages - entries == set(), "add these pages to nav in mkdocs.yml"
    assert entries - pages == set(), "nav in mkdocs.yml names pages that are not there"


def test_llms_txt_has_every_page_of_the_menu() -> None:
    lines = (DOCS / "llms.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].startswith("> ")
    items = [re.fullmatch(r"- \[([^\]]+)\]\(([^)]+)\): \S.*", line) for line in lines if line.startswith("- ")]
    assert all(items)
    listed = {item[2].replace("../", "files/"): item[1] for item in items if item}
    nav = nav_pages()
    missing = [f"{title} ({page})" for page, title in nav.items() if page not in listed and page != "index.md"]
    assert not missing, f"docs/llms.txt has no line for {', '.join(missing)}"
    assert set(listed) <= set(nav)


def test_what_costs_little_is_run() -> None:
    """Every target of make that a page shows is read by make; `tuning check` reads the studies."""
    shown = {target for page in DOCUMENTS for target, _ in calls(_MAKE, page)}
    assert {"run", "test", "ui"} <= shown
    run_program(["make", "--dry-run", *sorted(shown)], cwd=REPOSITORY)
    assert main(["check", "--folder", str(REPOSITORY / "dags" / "studies")]) == 0
