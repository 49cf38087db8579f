"""docs/own_objectives.md, followed to the letter: its files are written and its commands run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from optuna_spark.objectives.context import ObjectiveContext
from tests.support.programs import run_program
from tests.support.servers import spark_environment
from tuning_pipeline.dag.check import check

PAGE = (REPOSITORY / "docs" / "own_objectives.md").read_text(encoding="utf-8")
# A file begins with its name.
FILES = re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the page's commands use of a checkout, and the files that it has one write."""
    for name in ("jobs", "examples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / ".state" / "envs").mkdir(parents=True)
    (tmp_path / ".state" / "envs" / "spark").symlink_to(spark_environment())
    for name, text in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_its_study_file_is_right(checkout: Path) -> None:
    assert {name for name, _ in FILES} > {f"dags/studies/mine.{kind}" for kind in ("py", "yaml", "csv")}
    assert check(checkout / "dags" / "studies") == (["ok: mine.yaml, DAG tune_mine"], 0)


def test_its_commands_do_what_it_says(checkout: Path) -> None:
    if not spark_environment().exists():
        pytest.skip("no Spark environment: run `make setup`")
    by_hand, trials, example = (run_program(["bash", "-euc", text], cwd=checkout).stdout for text in COMMANDS)
    assert by_hand == "0.8\n"
    assert "It prints `0.8`." in PAGE
    for output, number in ((trials, 10), (example, 5)):
        assert f"{number}/{number} trials" in output
        assert "Best value" in output.splitlines()[-1]


def test_it_names_the_whole_context() -> None:
    public = {name for name in dir(ObjectiveContext) if not name.startswith("_")} | {"spec", "device", "table"}
    described = set(re.findall(r"^\| `context\.(\w+)", PAGE, re.MULTILINE))
    assert described == public - {"data_secrets"}


def test_its_links_lead_somewhere() -> None:
    links = set(re.findall(r"\]\(([^)]+)\)", PAGE))
    assert links
    files = {link.partition("#")[0] for link in links} - {""}  # `make docs` checks the places within pages
    assert [file for file in files if not (REPOSITORY / "docs" / file).exists()] == []
