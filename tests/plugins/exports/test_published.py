"""What was published last outlives Airflow's own memory of it, and old exports go without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]  # published without types

from tuning_pipeline.exports.export import BEST_PARAMS, export_study
from tuning_pipeline.exports.published import FILE, Published, note_if_better, note_published, read_published
from tuning_pipeline.exports.retention import MARKER, remove_old_exports
from tuning_pipeline.failures import TaskError
from tuning_pipeline.study_file.study_file import StudyFileError, read_study

STUDY = "wine"


@dataclass(frozen=True)
class Event:
    extra: dict[str, Any]


@pytest.fixture(params=["disk", "object store"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStoragePath]:
    if request.param == "disk":
        yield ObjectStoragePath(str(tmp_path / "exports"))
        return
    attach("memory", fs=MemoryFileSystem())
    yield ObjectStoragePath("memory://bucket/exports")
    MemoryFileSystem.store.clear()


def best(value: float, run_id: str = "one", direction: str = "minimize") -> dict[str, Any]:
    return {"study": STUDY, "run_id": run_id, "value": value, "directions": [direction]}


def export(base: ObjectStoragePath, *run_ids: str) -> None:
    study = optuna.create_study(study_name=STUDY)
    study.add_trial(optuna.create_trial(value=1.0))
    for run_id in run_ids:
        export_study(study, base, run_id)


def folders(base: ObjectStoragePath) -> list[str]:
    """The exports that whoever reads them finds."""
    return sorted(path.name for path in (base / STUDY).iterdir() if path.name != "latest" and (path / MARKER).exists())


def test_what_was_noted_is_compared_with_when_the_events_are_gone(base: ObjectStoragePath) -> None:
    export(base, "one", "two", "three")
    assert note_if_better(base, STUDY, best(2.0), [])
    assert not note_if_better(base, STUDY, best(3.0, "two"), [])
    assert not note_if_better(base, STUDY, best(2.0, "two"), [])
    assert read_published(base, STUDY) == Published("one", "one", 2.0)
    assert note_if_better(base, STUDY, best(1.0, "three"), [])
    assert read_published(base, STUDY) == Published("three", "three", 1.0)


def test_the_event_counts_where_nothing_is_noted_yet(base: ObjectStoragePath) -> None:
    export(base, "one")
    assert not note_if_better(base, STUDY, best(3.0), [Event({"value": 2.0, "run_id": "zero"})])
    assert read_published(base, STUDY) is None
    assert note_if_better(base, STUDY, best(1.0), [Event({"value": 2.0, "run_id": "zero"})])


def test_a_task_that_ended_before_its_event_was_taken_publishes_at_its_next_try(base: ObjectStoragePath) -> None:
    export(base, "one")
    before = [Event({"value": 3.0, "run_id": "zero"})]
    assert note_if_better(base, STUDY, best(2.0), before)
    assert note_if_better(base, STUDY, best(2.0), before)
    assert not note_if_better(base, STUDY, best(2.0), [*before, Event({"value": 2.0, "run_id": "one"})])


def test_a_note_that_was_changed_is_a_card_and_nothing_is_published(base: ObjectStoragePath) -> None:
    export(base, "one")
    for content in (b"", b"[]", b"{}", b'{"run_id": 1, "folder": "one", "value": 1}'):
        (base / STUDY / FILE).write_bytes(content)
        with pytest.raises(TaskError, match="does not say what study wine published last") as caught:
            note_if_better(base, STUDY, best(1.0), [])
        assert caught.value.failure.next.startswith("Remove it.")
        assert not caught.value.failure.retry


def test_a_study_of_several_directions_is_noted_without_a_value(base: ObjectStoragePath) -> None:
    export(base, "one")
    note_published(base, STUDY, {**best(1.0), "value": None})
    assert read_published(base, STUDY) == Published("one", "one", None)


def test_all_exports_stay_by_default(base: ObjectStoragePath) -> None:
    export(base, "c", "b", "a")
    assert remove_old_exports(base, STUDY, None) == []
    assert folders(base) == ["a", "b", "c"]


def test_the_newest_exports_stay_whatever_their_names(base: ObjectStoragePath) -> None:
    export(base, "c", "b", "a")
    assert remove_old_exports(base, STUDY, 2) == ["c"]
    assert folders(base) == ["a", "b"]
    assert remove_old_exports(base, STUDY, 2) == []


def test_what_latest_leads_to_and_what_was_published_last_stay(base: ObjectStoragePath) -> None:
    export(base, "published", "old", "linked", "newest")
    note_published(base, STUDY, best(1.0, "published"))
    if base.protocol == "memory":
        (base / STUDY / "latest" / "LATEST").write_text("linked\n")
    else:
        link = Path(base.path, STUDY, "latest")
        link.unlink()
        link.symlink_to("linked")
    assert remove_old_exports(base, STUDY, 1) == ["old"]
    assert folders(base) == ["linked", "newest", "published"]
    assert (base / STUDY / "latest" / BEST_PARAMS).exists()


def test_only_exports_are_removed(base: ObjectStoragePath) -> None:
    export(base, "one", "two")
    (base / STUDY / "notes").mkdir()
    (base / STUDY / "notes" / "mine.txt").write_text("mine")
    (base / STUDY / "model.bin").write_text("mine")
    (base / "other" / "one").mkdir(parents=True)
    (base / "other" / "one" / MARKER).write_text("{}")
    assert remove_old_exports(base, STUDY, 1) == ["one"]
    assert (base / STUDY / "notes" / "mine.txt").read_text() == "mine"
    assert (base / STUDY / "model.bin").exists()
    assert (base / "other" / "one" / MARKER).exists()


def test_a_folder_that_cannot_be_removed_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = ObjectStoragePath(str(tmp_path))
    too_long = tmp_path / STUDY / ("n" * 250)  # for the name that it would have meanwhile
    too_long.mkdir(parents=True)
    (too_long / MARKER).write_text("{}")
    export(base, "one", "two")
    assert remove_old_exports(base, STUDY, 1) == ["one"]
    assert "cannot be removed" in caplog.text
    assert (too_long / MARKER).exists()


def test_keep_exports_is_a_number_of_at_least_one(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("keep_exports: 0\n")
    with pytest.raises(StudyFileError, match=r"keep_exports must be at least 1, or null to keep all, got 0"):
        read_study(file)
    file.write_text(json.dumps({"keep_exports": 30}))
    assert read_study(file).settings.keep_exports == 30
