"""Every study file that README.md and the pages of docs/ show can be used as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from init.local.layout import REPOSITORY
from tuning_pipeline.study_file.study_file import read_study

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
STUDIES = [
    pytest.param(block, id=f"{page.relative_to(REPOSITORY)}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
    if re.search(r"^objective:", block, re.MULTILINE)
]


@pytest.mark.parametrize("block", STUDIES)
def test_a_study_on_a_page_is_a_study_file(block: str, tmp_path: Path) -> None:
    module = yaml.safe_load(block)["objective"].partition(":")[0]
    (tmp_path / f"{module}.py").write_text("def objective(trial):\n    return 0.0\n")
    (tmp_path / "shown.yaml").write_text(block)
    assert read_study(tmp_path / "shown.yaml").settings.objective.partition(":")[0] == module


def test_the_pages_show_some() -> None:
    assert len(STUDIES) >= 6
