"""A run that is told to end, by its timeout or by somebody, ends with what it has, though an objective hangs."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.driver.coordinator import LoadedRun
from optuna_spark.driver.database_run import OpenedDatabaseRun
from optuna_spark.driver.run import RunResult, tune
from optuna_spark.spec.sections import ComponentSpec, StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import EXHAUSTED
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.run_marks import ENDED_EARLY, FINISH, LIMIT, mark, with_mark
from optuna_spark.storage.trial_marks import error_of
from optuna_spark.trial_callback import NOBODY
from tests.support.waiting import wait_until

HANGS: dict[str, Any] = {"objective": "sample_objectives:first_one_hangs", "trials": 2000, "grace_s": 1.0}


@pytest.fixture(params=["driver", "database"])
def coordination(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", autouse=True)
def imported_early(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the fork server import what workers need, so that they begin long before a run's timeout."""
    url = f"sqlite:///{tmp_path_factory.mktemp('warm')}/study.sqlite3"
    for coordination in ("driver", "database"):
        spec = spec_for(coordination, objective="sample_objectives:parabola", trials=1, run_id=coordination)
        tune(spec, url)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


def spec_for(coordination: str, **changes: Any) -> TuningSpec:
    mine = {"tasks": 2, "distribution": "local", "run_id": "one", "seed": 1, "coordination": coordination}
    whole: dict[str, Any] = mine | HANGS | changes
    return TuningSpec("study", **whole)


def trials_of(url: str, *states: TrialState) -> list[FrozenTrial]:
    with opened_storage(url) as storage:
        return optuna.load_study(study_name="study", storage=storage).get_trials(states=states)


def note(url: str, key: str) -> Any:
    with opened_storage(url) as storage:
        return storage.get_study_system_attrs(storage.get_study_id_from_name("study")).get(key)


def ask_to_finish(url: str, by: str, run_id: str = "one") -> None:
    with opened_storage(url) as storage:
        study = storage.get_study_id_from_name("study")
        storage.set_study_system_attr(study, FINISH, with_mark(note(url, FINISH), run_id, by))


def started(spec: TuningSpec, url: str) -> tuple[threading.Thread, list[RunResult]]:
    """The run in a thread of its own, and where its result will be."""
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(tune(spec, url)), daemon=True)
    thread.start()
    return thread, results


def has_completed(url: str) -> bool:
    try:
        return bool(trials_of(url, TrialState.COMPLETE))
    except KeyError:  # no study yet
        return False


def test_a_run_whose_objective_hangs_ends_well_soon_after_its_timeout(url: str, coordination: str) -> None:
    strict = StopSpec(max_failures=1, max_consecutive_failures=1)  # the trials that the end cuts off do not count
    thread, results = started(spec_for(coordination, timeout_s=15, stop=strict), url)
    thread.join(120)
    assert results, "the run failed, or lives on"
    assert results[0].stop_reason == "finished early by timeout_s (15 s)"
    (hung,) = trials_of(url, TrialState.FAIL)
    assert hung.number == 0
    assert error_of(hung) == (
        "the run was finished early by timeout_s (15 s), and this trial did not end within grace_s (1 s)"
    )
    assert trials_of(url, TrialState.COMPLETE)
    assert not trials_of(url, TrialState.RUNNING, TrialState.WAITING)
    assert mark(note(url, ENDED_EARLY), "one") == "finished early by timeout_s (15 s)"
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("tuning-worker")]


def test_a_run_that_has_reached_its_target_ends_though_an_objective_hangs(url: str, coordination: str) -> None:
    thread, results = started(spec_for(coordination, stop=StopSpec(target_value=1000)), url)
    thread.join(120)
    assert results, "the run lives on"
    assert results[0].stop_reason == "the target value 1000 was reached"
    last = results[0].snapshot
    assert (last.failed, last.running) == (1, 0), "the trial that was cut off counts"
    assert last.finished == len(trials_of(url, TrialState.COMPLETE))
    (hung,) = trials_of(url, TrialState.FAIL)
    assert error_of(hung) == (
        "the run ends early: the target value 1000 was reached, and this trial did not end within grace_s (1 s)"
    )
    assert trials_of(url, TrialState.COMPLETE)
    assert not trials_of(url, TrialState.RUNNING, TrialState.WAITING)


def test_an_objective_that_stops_its_study_ends_the_run_though_another_one_hangs(url: str, coordination: str) -> None:
    thread, results = started(spec_for(coordination, objective="sample_objectives:stops_its_study"), url)
    thread.join(120)
    assert results, "the run lives on"
    assert "called study.stop()" in (results[0].stop_reason or "")
    assert [t.number for t in trials_of(url, TrialState.FAIL)] == [0]
    assert [t.number for t in trials_of(url, TrialState.COMPLETE)] == [1, 2]


def test_a_sampler_that_has_tried_everything_ends_the_run_well(url: str, coordination: str) -> None:
    grid = ComponentSpec("GridSampler", {"search_space": {"x": [1.0, 2.0, 3.0]}})
    result = tune(spec_for(coordination, objective="sample_objectives:parabola", sampler=grid, tasks=1), url)
    assert result.stop_reason == EXHAUSTED
    assert {t.params["x"] for t in trials_of(url, TrialState.COMPLETE)} == {1.0, 2.0, 3.0}


def test_a_run_that_somebody_tells_to_finish_ends_with_what_it_has(url: str, coordination: str) -> None:
    thread, results = started(spec_for(coordination), url)
    wait_until(lambda: has_completed(url), "a trial to complete")
    ask_to_finish(url, "someone else", run_id="another")  # is not for this run
    ask_to_finish(url, "alice\n")
    thread.join(120)
    assert results, "the run lives on"
    assert results[0].stop_reason == r"finished early by alice\n"
    assert [t.number for t in trials_of(url, TrialState.FAIL)] == [0]
    assert not trials_of(url, TrialState.RUNNING, TrialState.WAITING)
    assert mark(note(url, ENDED_EARLY), "one") == r"finished early by alice\n"
    # The request was heeded: the same run goes on when somebody starts it again.
    assert mark(note(url, FINISH), "one") is None
    assert mark(note(url, FINISH), "another") == "someone else"


@pytest.mark.parametrize("ended_well", [False, True])
def test_a_request_to_finish_outlives_a_try_that_did_not_end_well(
    url: str, coordination: str, ended_well: bool
) -> None:
    """Airflow tries the task again, and the next try is told the same."""
    kind = OpenedDatabaseRun if coordination == "database" else LoadedRun
    run = kind(spec_for(coordination), url, NOBODY).start("127.0.0.1", "127.0.0.1")
    ask_to_finish(url, "alice")

    def is_told() -> bool:
        run.watch(run.snapshot())
        return run.told_to_end() is not None

    wait_until(is_told, "the run to see the request")
    run.finish(ended_well)
    assert mark(note(url, FINISH), "one") == (None if ended_well else "alice")


def test_a_request_that_comes_when_all_trials_are_run_ends_nothing_early(url: str, coordination: str) -> None:
    parabola = {"objective": "sample_objectives:parabola", "trials": 3}
    tune(spec_for(coordination, **parabola), url)
    ask_to_finish(url, "alice")
    assert tune(spec_for(coordination, **parabola), url).stop_reason is None
    assert mark(note(url, ENDED_EARLY), "one") is None
    assert mark(note(url, FINISH), "one") is None


def test_trials_that_end_in_time_are_kept(url: str, coordination: str) -> None:
    changes = {"objective": "sample_objectives:parabola_of_two_seconds", "timeout_s": 8, "grace_s": 600.0}
    result = tune(spec_for(coordination, **changes), url)
    assert result.stop_reason is not None
    assert not trials_of(url, TrialState.FAIL, TrialState.RUNNING)


def test_a_run_that_was_ended_and_then_goes_on_is_not_called_early_any_more(url: str, coordination: str) -> None:
    target = {"objective": "sample_objectives:parabola", "grace_s": 60.0}
    early = tune(spec_for(coordination, **target, trials=50, stop=StopSpec(target_value=1000)), url)
    assert mark(note(url, ENDED_EARLY), "one") == early.stop_reason
    tune(spec_for(coordination, **target, trials=50), url)
    assert mark(note(url, ENDED_EARLY), "one") is None


def test_notes_that_do_not_fit_drop_the_oldest() -> None:
    marks: dict[str, str] = {}
    for number in range(500):
        marks = with_mark(marks, f"run-{number}", "x" * 1000)
    assert len(str(marks)) <= LIMIT
    assert mark(marks, "run-499")
    assert mark(marks, "run-0") is None
    assert mark("not a table", "run-0") is None
