"""Study files written and read by tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tuning_pipeline.study_file import declared, form
from tuning_pipeline.study_file.study_file import StudyFile, read_study


def study_reader(folder: Path) -> Callable[[str], StudyFile]:
    """Reads a text as `dags/studies/example.yaml` below `folder`."""

    def read(text: str) -> StudyFile:
        path = folder / "dags" / "studies" / "example.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return read_study(path)

    return read


@contextmanager
def listed(registry: Mapping[str, Any], name: str, kind: object) -> Iterator[None]:
    """For a while a registry has one entry more, and what was collected from it is collected anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry, name, kind)
        try:
            _collect_anew()
            yield
        finally:
            _collect_anew()


def _collect_anew() -> None:
    declared.study_parts.cache_clear()
    form.all_fields.cache_clear()
