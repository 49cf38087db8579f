"""A request to finish in a run's folder reaches the run, and that run alone; no look for one harms it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from optuna_spark.driver.run import RunResult, tune
from optuna_spark.entry.finish_relay import FinishRelay
from optuna_spark.errors import StorageError
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.finish_file import FINISH_FILE, LONGEST_FILE, asked_by, request_text
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.run_marks import ENDED_EARLY, FINISH, mark
from tests.support.waiting import wait_until

ENDLESS: dict[str, Any] = {"objective": "sample_objectives:slow_parabola", "trials": 2000, "grace_s": 5.0}
SHORT: dict[str, Any] = {"objective": "sample_objectives:parabola", "trials": 3}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


def spec_of(run_id: str = "one", **changes: Any) -> TuningSpec:
    return TuningSpec("study", tasks=2, distribution="local", run_id=run_id, seed=1, **changes)


def relay(file: Path, url: str, run_id: str = "one") -> FinishRelay:
    return FinishRelay(file, url, "study", run_id, every_s=0.2)


def run_beside_relay(spec: TuningSpec, url: str, file: Path) -> RunResult:
    with relay(file, url, spec.run_id).at_work():
        return tune(spec, url)


def note(url: str, key: str) -> Any:
    with opened_storage(url) as storage:
        return storage.get_study_system_attrs(storage.get_study_id_from_name("study")).get(key)


def has_completed(url: str) -> bool:
    try:
        with opened_storage(url) as storage:
            study = optuna.load_study(study_name="study", storage=storage)
            return bool(study.get_trials(states=(TrialState.COMPLETE,)))
    except KeyError:  # no study yet
        return False


@pytest.mark.parametrize("coordination", ["driver", "database"])
def test_a_request_in_the_runs_folder_ends_the_run_and_no_later_start(
    url: str, tmp_path: Path, coordination: str
) -> None:
    file, results = tmp_path / FINISH_FILE, list[RunResult]()
    slow = {"objective": "sample_objectives:parabola_of_two_seconds", "trials": 20}
    spec = spec_of(**ENDLESS | slow, coordination=coordination)
    thread = threading.Thread(target=lambda: results.append(run_beside_relay(spec, url, file)), daemon=True)
    thread.start()
    wait_until(lambda: has_completed(url), "a trial to complete", every_s=1)
    file.write_text(request_text("one", "alice"))
    thread.join(120)
    assert results, "the run lives on"
    assert results[0].stop_reason == "finished early by alice"
    assert mark(note(url, ENDED_EARLY), "one") == "finished early by alice"
    assert not file.exists()
    assert results[0].snapshot.finished < 20
    again = run_beside_relay(spec.with_changes(objective="sample_objectives:parabola"), url, file)
    assert (again.stop_reason, again.snapshot.finished) == (None, 20)


def test_a_request_that_is_there_before_the_driver_counts(url: str, tmp_path: Path) -> None:
    file = tmp_path / FINISH_FILE
    file.write_text(request_text("one", "alice"))  # while the cluster started
    result = run_beside_relay(spec_of(**ENDLESS), url, file)
    assert result.stop_reason == "finished early by alice"


def test_a_request_to_a_driver_that_fails_reaches_its_next_try(url: str, tmp_path: Path) -> None:
    file = tmp_path / FINISH_FILE

    def fail() -> None:
        file.write_text(request_text("one", "alice"))  # after the last look
        raise StorageError("the database has gone")

    with pytest.raises(StorageError), FinishRelay(file, url, "study", "one", every_s=3600).at_work():
        fail()
    assert run_beside_relay(spec_of(**ENDLESS), url, file).stop_reason == "finished early by alice"
    assert not file.exists()


@pytest.mark.parametrize(
    "content",
    [
        request_text("another", "alice").encode(),
        b"",
        b"\xff\xfe{",
        b"[" * 5_000,
        b'["one", "alice"]',
        b'{"run": "one"}',
        b'{"run": "one", "by": ["alice"]}',
        request_text("one", "alice").encode() + b" " * LONGEST_FILE,
    ],
)
def test_what_is_no_request_to_this_run_is_none(content: bytes) -> None:
    assert asked_by(content, "one") is None


def test_a_request_to_another_run_is_told_once_and_ends_nothing(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / FINISH_FILE
    file.write_text(request_text("an earlier one", "alice"))
    with caplog.at_level(logging.INFO), relay(file, url).at_work():
        tune(spec_of(**SHORT), url)
        wait_until(lambda: "cannot be heeded" in caplog.text, "a look")
        looked = threading.Event()
        looked.wait(1)  # several looks
    assert caplog.text.count("cannot be heeded: it is no request to this run") == 1
    assert note(url, FINISH) is None
    assert len(optuna.load_study(study_name="study", storage=url).trials) == 3


def test_a_look_that_fails_ends_nothing(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / FINISH_FILE
    file.mkdir()  # cannot be read, nor removed
    with caplog.at_level(logging.INFO), relay(file, url).at_work():
        result = tune(spec_of(**SHORT), url)
        wait_until(lambda: "IsADirectoryError" in caplog.text, "a look")
    assert (result.stop_reason, result.snapshot.finished) == (None, 3)


def test_a_database_that_fails_is_asked_again(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / FINISH_FILE
    file.write_text(request_text("one", "alice"))
    with opened_storage(url), caplog.at_level(logging.INFO), relay(file, url).at_work():
        wait_until(lambda: "KeyError" in caplog.text, "a look at a database without the study")
        result = tune(spec_of(**ENDLESS), url)
    assert result.stop_reason == "finished early by alice"


def test_where_there_is_no_request_nothing_is_opened_or_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = tmp_path / "folder" / FINISH_FILE
    with caplog.at_level(logging.INFO), relay(nowhere, f"sqlite:///{tmp_path}/none.sqlite3").at_work():
        threading.Event().wait(1)
    assert caplog.text == ""
    assert list(tmp_path.iterdir()) == []
