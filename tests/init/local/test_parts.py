"""The parts of `make test`: each file of tests runs in one of them, whatever is added."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from init.local.layout import REPOSITORY
from tests.support.programs import run_program

SCRIPT = REPOSITORY / "init" / "local" / "test.sh"
STUB = """#!/bin/sh
echo "$$ begins"
sleep 0.2
case " $* " in *" tests/init "*) echo "one of them failed"; exit 1 ;; esac
echo "3 passed"
"""


def parts() -> dict[str, list[str]]:
    """What pytest is told for each part."""
    lines = run_program(["bash", SCRIPT, "show"]).stdout.splitlines()
    return {name: words for name, *words in map(str.split, lines)}


def collects(words: list[str], file: str) -> bool:
    def below(paths: list[str]) -> bool:
        return any(file == path or file.startswith(f"{path}/") for path in paths)

    left_out = [word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")]
    return below([word for word in words if not word.startswith("--")]) and not below(left_out)


def test_every_file_of_tests_runs_in_one_part() -> None:
    known = parts()
    files = [file.relative_to(REPOSITORY).as_posix() for file in (REPOSITORY / "tests").rglob("test_*.py")]
    assert len(files) > 100
    run_in = {file: [name for name, words in known.items() if collects(words, file)] for file in files}
    assert {file: names for file, names in run_in.items() if len(names) != 1} == {}
    assert set(known) == {name for (name,) in run_in.values()}
    named = [word.removeprefix("--ignore=") for words in known.values() for word in words]
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def checkout(folder: Path) -> Path:
    """The script in a checkout whose programs are stand-ins, so that only the script is tried."""
    script = folder / "init" / "local" / "test.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, script)
    names = [script.with_name("lint.sh"), *(folder / f".state/envs/{one}/bin/python" for one in ("airflow", "spark"))]
    for file in names:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(STUB)
        file.chmod(0o755)
    return script


def test_every_part_runs_and_one_that_fails_fails_the_whole(tmp_path: Path) -> None:
    script = checkout(tmp_path)
    told = run_program(["bash", script], env=dict(os.environ) | {"TEST_JOBS": "3"}, code=1).stdout.splitlines()
    names = ["lint", *parts()]
    summary = told[told.index("== summary") + 1 :]
    assert sorted(summary[:-1]) == sorted(f"{n}: {'one of them failed' if n == 'init' else '3 passed'}" for n in names)
    assert summary[-1] == "failed: init"
    assert Counter(line for line in told if line.startswith("==")) == Counter(
        ["== summary", *(f"== {name}{more}" for name in names for more in ("", " begins; its output follows"))]
    )
    at_once = most = 0
    for line in told:
        at_once += line.endswith("its output follows") - (line in {f"== {name}" for name in names})
        most = max(most, at_once)
    assert most == 3
