"""A whole run, whoever coordinates it: exact budgets, recovered workers and limits, with real processes."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from sample_objectives import NAMES_OF_NOTES  # type: ignore[import-not-found]  # see conftest.py

from init.local.layout import REPOSITORY
from optuna_spark.driver.coordinator import LoadedRun
from optuna_spark.driver.database_run import OpenedDatabaseRun
from optuna_spark.driver.run import tune
from optuna_spark.errors import StorageError, StudyGoneError, TrialLimitError, TuningError
from optuna_spark.spec.sections import CoordinatorSpec, ParamSpec, StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.stop_and_retry import LOST
from optuna_spark.storage.trial_marks import error_of, marks_of, run_id_of
from tests.support.programs import run_program
from tests.support.waiting import wait_until

DEFAULTS: dict[str, Any] = {
    "study_name": "study",
    "trials": 6,
    "tasks": 2,
    "distribution": "local",
    "run_id": "one",
    "seed": 1,
}


@pytest.fixture(params=["driver", "database"], autouse=True)
def coordination(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(DEFAULTS, "coordination", request.param)
    return str(request.param)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


def spec_for(function: str, **changes: Any) -> TuningSpec:
    return TuningSpec(**{**DEFAULTS, "objective": f"sample_objectives:{function}", **changes})


def trials_of(url: str, *states: TrialState) -> list[FrozenTrial]:
    trials = optuna.load_study(study_name="study", storage=url).get_trials(states=states or None)
    return [t for t in trials if run_id_of(t)]


def test_a_run_finishes_exactly_its_trials_and_a_second_run_adds_exactly_its_own(url: str) -> None:
    tune(spec_for("parabola"), url)
    tune(spec_for("parabola", run_id="two", trials=3), url)
    assert Counter(run_id_of(t) for t in trials_of(url)) == {"one": 6, "two": 3}


def test_a_run_started_again_with_its_id_runs_nothing_that_was_done(url: str) -> None:
    tune(spec_for("parabola", trials=3), url)
    tune(spec_for("parabola", trials=5), url)
    assert len(trials_of(url)) == 5


def test_workers_suggest_different_points_and_the_same_ones_in_every_run(url: str, tmp_path: Path) -> None:
    one_worker = {"tasks": 1, "trials": 5}
    tune(spec_for("parabola", **one_worker), url)
    other = f"sqlite:///{tmp_path}/other.sqlite3"
    tune(spec_for("parabola", **one_worker), other)
    assert [t.params for t in trials_of(url)] == [t.params for t in trials_of(other)]
    tune(spec_for("parabola", run_id="many", tasks=3, trials=9), url)
    assert len({t.params["x"] for t in trials_of(url)}) == 14


def test_failed_trials_do_not_eat_the_budget_and_say_why(url: str) -> None:
    tune(spec_for("sometimes_fails"), url)
    assert len(trials_of(url, TrialState.COMPLETE)) == 6
    failed = trials_of(url, TrialState.FAIL)
    assert failed
    assert all("every third trial fails" in str(error_of(t)) for t in failed)


def test_failed_trials_eat_the_budget_when_asked_to(url: str) -> None:
    tune(spec_for("sometimes_fails", stop=StopSpec(failures_count=True)), url)
    assert len(trials_of(url)) == 6


def test_a_value_that_is_not_a_number_fails_its_trial_only(url: str) -> None:
    tune(spec_for("returns_nan"), url)
    assert [t.number for t in trials_of(url, TrialState.FAIL)] == [2]
    assert len(trials_of(url, TrialState.COMPLETE)) == 6


def test_too_many_failures_in_a_row_end_the_run_with_the_first_cause(url: str) -> None:
    with pytest.raises(TrialLimitError, match=r"(?s)failed in a row.*the first, trial \d+.*cannot train"):
        tune(spec_for("always_fails", stop=StopSpec(max_consecutive_failures=3)), url)
    assert not trials_of(url, TrialState.RUNNING)


def test_a_worker_that_does_not_end_is_killed_and_costs_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("optuna_spark.distribution.local.END_S", 0.5)
    tune(spec_for("never_lets_go", tasks=1, trials=2), url)
    assert len(trials_of(url, TrialState.COMPLETE)) == 2
    assert "did not end within 0.5 s: killed" in caplog.text


def test_a_killed_worker_is_replaced_and_its_point_is_tried_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MARKER", str(tmp_path / "died"))
    beat = CoordinatorSpec(heartbeat_s=0.2)
    tune(spec_for("dies_once", coordinator=beat), url)
    finished = trials_of(url, TrialState.COMPLETE)
    assert len(finished) == 6
    lost = trials_of(url, TrialState.FAIL)
    assert len(lost) == 1
    assert [t.params for t in finished if marks_of(t).retried_from == lost[0].number] == [lost[0].params]


def test_an_objective_may_use_the_names_of_the_runs_notes(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_MARKER", str(tmp_path / "died"))
    beat = CoordinatorSpec(heartbeat_s=0.2)
    for trials in (3, 5):  # the second is the same run again
        tune(spec_for("uses_the_names_of_notes", trials=trials, coordinator=beat), url)
        finished = trials_of(url, TrialState.COMPLETE)
        assert len(finished) == trials
    (lost,) = trials_of(url, TrialState.FAIL)
    assert (error_of(lost), {run_id_of(t) for t in finished}) == (LOST, {"one"})
    assert [t.params for t in finished if marks_of(t).retries == 1] == [lost.params]
    assert all(t.user_attrs == NAMES_OF_NOTES for t in finished)


def test_without_an_id_each_call_is_a_new_run(url: str) -> None:
    spec = spec_for("parabola", run_id="", trials=1, tasks=1)
    tune(spec, url)
    tune(spec, url)
    assert len({run_id_of(t) for t in trials_of(url, TrialState.COMPLETE)}) == 2


def test_a_run_stops_at_its_timeout(url: str) -> None:
    result = tune(spec_for("slow_parabola", trials=10_000, timeout_s=5.0), url)
    assert result.stop_reason is not None
    assert "timeout" in result.stop_reason
    # On a busy machine the first worker may come after the time is over.
    assert 0 <= result.snapshot.finished < 10_000
    assert len(trials_of(url, TrialState.RUNNING)) == 0


def test_a_run_stops_at_its_target_value(url: str) -> None:
    result = tune(spec_for("slow_parabola", trials=10_000, stop=StopSpec(target_value=200.0)), url)
    assert result.stop_reason is not None
    assert "target value" in result.stop_reason


def test_a_run_stops_when_nothing_improves_any_more(url: str) -> None:
    result = tune(spec_for("slow_constant", trials=10_000, tasks=4, stop=StopSpec(terminator=True)), url)
    assert result.stop_reason is not None
    assert "terminator" in result.stop_reason


def test_several_objectives_work(url: str) -> None:
    result = tune(spec_for("two_values", directions=("minimize", "minimize")), url)
    assert result.snapshot.finished == 6
    assert all(len(t.values) == 2 for t in trials_of(url, TrialState.COMPLETE))


def test_first_points_are_tried_first(url: str) -> None:
    space = {"x": ParamSpec("float", -10, 10)}
    tune(spec_for("parabola", tasks=1, enqueue=({"x": 2.0},), search_space=space), url)
    assert trials_of(url)[0].params == {"x": 2.0}


def test_an_objective_that_cannot_be_found_is_one_clear_error(url: str) -> None:
    with pytest.raises(TuningError, match="nowhere"):
        tune(spec_for("parabola", objective="nowhere:parabola"), url)


@pytest.mark.parametrize("connect", [None, object])
def test_a_database_that_cannot_be_opened_is_one_clear_error(tmp_path: Path, connect: Callable[[], Any] | None) -> None:
    with pytest.raises(StorageError, match="cannot be used"):
        tune(spec_for("parabola"), f"sqlite:///{tmp_path}/no/such/folder.sqlite3", connect)


def test_the_study_is_opened_while_spark_starts_and_closed_when_spark_does_not(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = threading.Event()
    for kind in (LoadedRun, OpenedDatabaseRun):
        monkeypatch.setattr(kind, "__init__", announcing(kind.__init__, opened))

    def connect() -> NoReturn:
        assert opened.wait(60)
        raise TuningError("no Spark today")

    with pytest.raises(TuningError, match="no Spark today"):
        tune(spec_for("parabola"), url, connect)
    assert trials_of(url) == []
    assert "committer" not in {thread.name for thread in threading.enumerate()}
    tune(spec_for("parabola"), url)
    assert len(trials_of(url)) == 6


def announcing(method: Callable[..., None], done: threading.Event) -> Callable[..., None]:
    def call(*args: Any) -> None:
        method(*args)
        done.set()

    return call


UNGUARDED = """
from optuna_spark.driver.run import tune
from optuna_spark.spec.tuning import TuningSpec
tune(TuningSpec("study", distribution="local", trials=2, tasks=1, run_id="one", coordination={coordination!r}), {url!r})
"""


def test_a_program_that_its_own_workers_run_again_is_told_what_to_change(
    url: str, tmp_path: Path, coordination: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(UNGUARDED.format(coordination=coordination, url=url))
    env = os.environ | {"PYTHONPATH": str(REPOSITORY / "jobs")}
    done = run_program([sys.executable, program], env=env, code=None)
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'put the call under if __name__ == "__main__":' in done.stderr
    assert "worker 0 died with exit code 1" in done.stderr.splitlines()[-1]
    assert trials_of(url) == []


def test_a_study_that_is_deleted_in_mid_run_is_an_error_that_says_so(url: str) -> None:
    def delete() -> None:
        wait_until(lambda: study_has_trials(url, 2), "two trials")
        optuna.delete_study(study_name="study", storage=url)

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        with pytest.raises(StudyGoneError, match="study 'study' was deleted while this run worked on it") as caught:
            tune(spec_for("slow_parabola", trials=500), url)
    finally:
        deleting.join()
    assert not caught.value.retry


def study_has_trials(url: str, number: int) -> bool:
    try:
        return len(trials_of(url, TrialState.COMPLETE)) >= number
    except (KeyError, StorageError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError):
        return False  # not made yet
