"""The Makefile: what its user sets reaches the programs as it is, and neither make nor the shell reads it as code."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from tests.support.programs import run_program

MAKEFILE = (REPOSITORY / "Makefile").read_text()
TARGETS = next(line for line in MAKEFILE.splitlines() if line.startswith(".PHONY:")).split()[1:]
SETTINGS = re.findall(r"^override SETTINGS := (.*)", MAKEFILE, re.MULTILINE)[0].split()
# What make, a shell and a shell's quotes could take for code. All of them make the file `mark`.
CODE = [
    "x'; touch mark; '",
    'x"; touch mark; "',
    "x; touch mark",
    "$(shell touch mark)",
    "$$(touch mark)",
    "$(touch mark)",
    "`touch mark`",
    "x\n\ttouch mark",
    "${shell touch mark}",
]
# A program that writes down its arguments, and does nothing else.
WRITE_DOWN = '#!/bin/sh\nprintf "%s\\0" "$@" >>told\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which every program that the Makefile starts only writes down what it was told."""
    folder = tmp_path / "a checkout's folder"
    folder.mkdir()
    shutil.copy(REPOSITORY / "Makefile", folder)
    scripts = [script.relative_to(REPOSITORY) for script in (REPOSITORY / "init" / "local").glob("*.sh")]
    pythons = [Path(".state", "envs", name, "bin", "python") for name in ("airflow", "spark")]
    for program in [Path("python"), *pythons, *scripts]:
        (folder / program).parent.mkdir(parents=True, exist_ok=True)
        (folder / program).write_text(WRITE_DOWN)
        (folder / program).chmod(0o755)
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = run_program(["make", *arguments], cwd=folder, env=env | environment, code=None)
    return made.stdout + made.stderr


def settings(folder: Path, value: str) -> dict[str, str]:
    """Every setting with the same value, but for the one that names a program: that is its purpose."""
    return dict.fromkeys(SETTINGS, value) | {"PYTHON": str(folder / "python")}


def test_every_setting_is_guarded() -> None:
    assert {*re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE), "PYTHON"} == set(SETTINGS)


@pytest.mark.attack("set-up", "code in a variable of make", times=2 * len(CODE))
@pytest.mark.parametrize("target", TARGETS)
def test_no_setting_is_read_as_code(checkout: Path, target: str) -> None:
    for code in CODE:
        given = settings(checkout, code)
        make(checkout, target, *(f"{name}={value}" for name, value in given.items()))
        make(checkout, target, **given)
        assert not (checkout / "mark").exists(), code


@pytest.mark.attack("set-up", "code in a variable of make -n", times=len(CODE))
@pytest.mark.parametrize("name", SETTINGS)
def test_a_dry_run_shows_no_setting_as_code(checkout: Path, name: str) -> None:
    for code in CODE:
        assert "touch mark" not in make(checkout, "--dry-run", *TARGETS, f"{name}={code}")
        assert not (checkout / "mark").exists(), code


@pytest.mark.parametrize("code", CODE)
def test_every_setting_arrives_as_it_was_given(checkout: Path, code: str) -> None:
    given = [f"{name}={value}" for name, value in settings(checkout, code).items()]
    for target in ("run", "ui", "bench", "databricks-job", "test-debian13"):
        make(checkout, target, *given)
    told = (checkout / "told").read_text().split("\0")
    # --study, --trials, --port, --cases, --runs, --seeds, --only, --results, the study of databricks-job, and WHAT.
    assert told.count(code) == 10


def test_settings_have_defaults(checkout: Path) -> None:
    make(checkout, "run", f"PYTHON={checkout / 'python'}")
    assert (checkout / "told").read_text().split("\0") == ["-m", "init.local", "run", "--study", "diabetes",
                                                           "--trials", "", ""]  # fmt: skip


def test_without_a_python_make_says_what_to_install(checkout: Path) -> None:
    assert "Python 3.11 or later is needed" in make(checkout, "run", "PYTHON=")


def test_help_lists_every_target_in_one_column() -> None:
    lines = make(REPOSITORY, "help").splitlines()
    assert {line.split()[1] for line in lines} == set(TARGETS)
    starts = {len(line) - len(line.split(None, 2)[2]) for line in lines}
    assert starts == {len("make ") + max(map(len, TARGETS)) + 2}


def test_help_shows_commands_as_a_shell_takes_them(checkout: Path) -> None:
    assert 'export OPTUNA_STORAGE="$(make -s study-url)"' in make(checkout, "help")
    make(checkout, "study-url", f"PYTHON={checkout / 'python'}")
    assert (checkout / "told").read_text().split("\0")[:3] == ["-m", "init.local", "study-url"]
