"""What was published last outlives Airflow's own memory of it, and old exports go without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]  # published without types

from tests.support.studies import study_reader
from tuning_pipeline.exports.export import BEST_PARAMS, export_study
from tuning_pipeline.exports.export_run import export_run
from tuning_pipeline.exports.published import (
    FILE,
    Again,
    Published,
    judge,
    note_if_better,
    note_published,
    published_params,
    read_published,
    tried_again,
)
from tuning_pipeline.exports.retention import MARKER, remove_old_exports
from tuning_pipeline.failures import TaskError
from tuning_pipeline.retune.first_tries import with_first_tries
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.study_run import StudyRun
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


def best(value: float, run_id: str = "one", direction: str = "minimize", **params: Any) -> dict[str, Any]:
    found = {"study": STUDY, "run_id": run_id, "value": value, "directions": [direction], "params": params}
    return found | {"trial": 7}


def is_published(
    base: ObjectStoragePath, found: dict[str, Any], events: list[Event], again: float | None = None
) -> bool:
    """Whether a run publishes, in whose study the parameters published last have the value `again`."""
    verdict = note_if_better(base, STUDY, found, events, None if again is None else Again(again, 3))
    return verdict.publish


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
    assert is_published(base, best(2.0, x=2), [])
    assert not is_published(base, best(3.0, "two", x=3), [], again=2.0)
    assert not is_published(base, best(2.0, "two", x=4), [], again=2.0)
    assert read_published(base, STUDY) == Published("one", "one", 2.0, {"x": 2})
    assert is_published(base, best(1.0, "three", x=1), [], again=2.0)
    assert read_published(base, STUDY) == Published("three", "three", 1.0, {"x": 1})


def test_the_event_counts_where_nothing_is_noted_yet(base: ObjectStoragePath) -> None:
    export(base, "one")
    assert not is_published(base, best(3.0), [Event({"value": 2.0, "run_id": "zero"})])
    assert read_published(base, STUDY) is None
    assert is_published(base, best(1.0), [Event({"value": 2.0, "run_id": "zero"})])


def test_a_task_that_ended_before_its_event_was_taken_publishes_at_its_next_try(base: ObjectStoragePath) -> None:
    export(base, "one")
    before = [Event({"value": 3.0, "run_id": "zero"})]
    assert is_published(base, best(2.0), before)
    assert is_published(base, best(2.0), before)
    assert not is_published(base, best(2.0), [*before, Event({"value": 2.0, "run_id": "one"})])


def test_a_note_that_was_changed_is_a_card_and_nothing_is_published(base: ObjectStoragePath) -> None:
    export(base, "one")
    bad = (b'{"run_id": 1, "folder": "one", "value": 1}', b'{"run_id": "1", "folder": "1", "value": 1, "params": 1}')
    for content in (b"", b"[]", b"{}", *bad):
        (base / STUDY / FILE).write_bytes(content)
        with pytest.raises(TaskError, match="does not say what study wine published last") as caught:
            note_if_better(base, STUDY, best(1.0), [], None)
        assert caught.value.failure.next.startswith("Remove it.")
        assert not caught.value.failure.retry


def test_a_study_of_several_directions_is_noted_without_a_value(base: ObjectStoragePath) -> None:
    export(base, "one")
    note_published(base, STUDY, {**best(1.0), "value": None})
    assert read_published(base, STUDY) == Published("one", "one", None, {})


def test_after_a_reset_only_values_on_the_same_data_are_compared(base: ObjectStoragePath) -> None:
    """The data get harder: the best value is worse than any before, and still better than the old parameters' there."""
    export(base, "one", "two", "three")
    assert is_published(base, best(0.1, x=1), [])
    assert not is_published(base, best(0.6, "two", x=2), [], again=0.5)
    assert is_published(base, best(0.4, "three", x=3), [], again=0.5)
    assert is_published(base, best(0.01, "four", "maximize", x=4), [], again=0.009)


NOTED = Published("one", "one", 0.1, {"x": 1})
VERDICTS = [
    (best(0.4), None, None, "published: nothing was published before"),
    (
        best(0.4, "b", x=2),
        NOTED,
        Again(0.5, 3),
        "published: the value 0.4 is better than 0.5, which those published last have here (trial 3)",
    ),
    (
        best(0.6, "b", x=2),
        NOTED,
        Again(0.5, 3),
        "not published: the value 0.6 is no better than 0.5, which those published last have here (trial 3)",
    ),
    (
        best(0.5, "b", x=1),
        NOTED,
        Again(0.5, 3),
        "not published: the parameters published last are still the best, with 0.5",
    ),
    (
        best(0.4, "b", x=2),
        NOTED,
        None,
        "published: the parameters published last have no value in this study to compare with",
    ),
    (
        best(0.4, "b"),
        Published("a", "a", 0.3),
        None,
        "not published: the value 0.4 is no better than 0.3, that was published last",
    ),
]


@pytest.mark.parametrize(("found", "noted", "again", "sentence"), VERDICTS)
def test_the_verdict_says_why(
    found: dict[str, Any], noted: Published | None, again: Again | None, sentence: str
) -> None:
    assert str(judge(found, noted, [], noted.params if noted else None, again)) == sentence


def test_the_parameters_published_by_an_earlier_version_are_read_from_its_export(base: ObjectStoragePath) -> None:
    (base / STUDY / "one").mkdir(parents=True, exist_ok=True)
    (base / STUDY / FILE).write_text('{"run_id": "one", "folder": "one", "value": 1.0}')
    assert published_params(base, STUDY) is None
    (base / STUDY / "one" / BEST_PARAMS).write_text('{"params": {"x": 1}}')
    assert published_params(base, STUDY) == {"x": 1}
    assert published_params(base, "unknown") is None


def test_the_newest_trial_with_the_published_parameters_counts() -> None:
    space: dict[str, Any] = {"x": optuna.distributions.FloatDistribution(0, 9)}
    study = optuna.create_study()

    def add(x: float, value: float | None, **more: Any) -> None:
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.create_trial(state=state, value=value, params={"x": x}, distributions=space, **more))

    add(0.1 + 0.2, 5.0)
    add(2.0, 1.0)
    assert tried_again({"x": 0.1 + 0.2}, study.trials) == Again(5.0, 0)
    add(0.1 + 0.2, 6.0)
    add(0.1 + 0.2, None)
    assert tried_again({"x": 0.1 + 0.2}, study.trials) == Again(6.0, 2)
    assert tried_again({"x": 0.3}, study.trials) is None
    assert tried_again(None, study.trials) is None


def test_a_run_that_compares_first_tries_the_parameters_published_last(tmp_path: Path) -> None:
    base = tmp_path / "exports"
    (base / STUDY).mkdir(parents=True)
    text = f"study: {STUDY}\nexports: {base}\nenqueue: [{{x: 5}}, {{x: 3}}]\n"
    better = f"{text}retune: {{publish: better, mode: reset}}\n"
    study = study_reader(tmp_path)
    assert with_first_tries(study(better).to_spec("r"), study(better)).enqueue == ({"x": 5}, {"x": 3})
    note_published(base, STUDY, best(1.0, x=3))
    assert with_first_tries(study(better).to_spec("r"), study(better)).enqueue == ({"x": 3}, {"x": 5})
    assert with_first_tries(study(text).to_spec("r"), study(text)).enqueue == ({"x": 5}, {"x": 3})
    unfit: list[dict[str, Any]] = [{"x": 99}, {"x": 3, "gone": 1}, {}]
    for params in unfit:
        note_published(base, STUDY, best(1.0, **params))
        assert with_first_tries(study(better).to_spec("r"), study(better)).enqueue == ({"x": 5}, {"x": 3})


def test_the_export_of_a_run_finds_the_value_of_what_was_published_last_in_its_own_study(tmp_path: Path) -> None:
    base, url = tmp_path / "exports", sqlalchemy.URL.create("sqlite", database=str(tmp_path / "study.db"))
    study = optuna.create_study(study_name=STUDY, storage=url.render_as_string())
    space: dict[str, Any] = {"x": optuna.distributions.FloatDistribution(-10, 10)}
    for x, value in ((3.0, 109.0), (5.0, 100.0)):
        study.add_trial(optuna.create_trial(value=value, params={"x": x}, distributions=space))
    (base / STUDY).mkdir(parents=True)
    note_published(base, STUDY, best(0.0, x=3.0))
    for publish, again in (("better", Again(109.0, 0)), ("always", None)):
        text = f"study: {STUDY}\nexports: {base}\nretune: {{publish: {publish}, mode: reset}}\n"
        run = StudyRun(study_reader(tmp_path)(text), RunIdentity("d", "later"), "reset", asked_for=True)
        exported = export_run(run, url, "")
        assert (exported.best["value"], exported.again) == (100.0, again)


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
