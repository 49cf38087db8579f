"""The environments that set-up makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from init.local import environments
from init.local.environments import Lock
from init.local.layout import REPOSITORY, Layout


@pytest.mark.slow
def test_an_environment_that_is_to_be_packed_shares_no_file_with_another(tmp_path: Path) -> None:
    """A shared file changes when the other environment is removed, and tar fails on a file that changes."""
    layout = Layout(REPOSITORY)
    environments.ensure_uv(layout)
    folder = tmp_path / "environment"
    assert environments.build(
        layout, Lock("a small environment", folder, layout.requirements / "dist.txt"), copies=True
    )
    files = [file for file in folder.rglob("*.py") if not file.is_symlink()]
    assert len(files) > 10
    assert [file for file in files if file.stat().st_nlink > 1] == []
