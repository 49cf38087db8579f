"""Study files written and read by tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tuning_pipeline.study_file.study_file import StudyFile, read_study


def study_reader(folder: Path) -> Callable[[str], StudyFile]:
    """Reads a text as `dags/studies/example.yaml` below `folder`."""

    def read(text: str) -> StudyFile:
        path = folder / "dags" / "studies" / "example.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return read_study(path)

    return read
