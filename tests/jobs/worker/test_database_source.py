"""`coordination: database`: exact whoever works, dies, is closed by others or comes back; no clock is compared."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from init.local.mysql import MysqlServer
from optuna_spark.database import patient
from optuna_spark.database.connection import Database, Transaction
from optuna_spark.errors import StudyGoneError, TrialLimitError
from optuna_spark.shared_study.shared_trial import SharedTrial
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec, StopSpec
from optuna_spark.stop_and_retry import LOST
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.trial_marks import TrialMarks, error_of, marks_of
from optuna_spark.wire.messages import Outcome
from optuna_spark.worker.database_source import StaleWatch
from tests.support.coordination import XY, bowl, empty_database, finished, new_database, spec_for, stored
from tests.support.coordination import run as run_by_driver
from tests.support.shared import next_trial, started, text_of, work, work_in_threads, worker_of

DONE = Outcome(TrialState.COMPLETE, (1.0,))
OPEN = (TrialState.RUNNING, TrialState.WAITING)


@pytest.fixture(params=["sqlite", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """An empty database of a kind."""
    return empty_database(request, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """An SQLite database, where the kind does not matter."""
    return f"sqlite:///{tmp_path}/study.sqlite3"


def fails(_: Any) -> float:
    raise ValueError("no luck")


def close_by_hand(url: sa.URL | str, number: int, **ending: Any) -> None:
    """End a running trial of another process, as a person or another program does with plain Optuna."""
    with opened_storage(url) as storage:
        optuna.load_study(study_name="study", storage=storage).tell(number, **ending)


def rows(url: sa.URL | str, table: str) -> int:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one()
    engine.dispose()
    return int(count)


def test_workers_at_once_run_exactly_the_budget(url: sa.URL) -> None:
    with started(spec_for(trials=40), url) as run:
        assert work_in_threads(run, 8) == 40
    trials = stored(url)
    assert [t.number for t in trials] == list(range(40))
    assert all(t.value == bowl(optuna.trial.FixedTrial(t.params)) for t in trials)


def test_a_budget_of_a_million_trials_is_one_row(url: sa.URL) -> None:
    with started(spec_for(trials=1_000_000), url) as run:
        assert work(run, most=2) == 2
        assert [rows(url, f"optuna_spark_{name}") for name in ("tallies", "running", "queued")] == [1, 0, 0]
    assert rows(url, "optuna_spark_tallies") == 0


def test_a_run_that_goes_on_with_fewer_trials_ends_there(file: str) -> None:
    with started(spec_for(trials=30), file, ended_well=False) as run:
        work(run, most=3)
    with started(spec_for(trials=8), file) as run:
        work(run)
        assert run.snapshot().finished == 8
    assert len(finished(file)) == 8


def test_a_run_that_goes_on_with_fewer_trials_than_it_has_runs_none(file: str) -> None:
    with started(spec_for(trials=5), file) as run:
        work(run)
    with started(spec_for(trials=3), file) as run:
        assert work(run) == 0


def test_a_deleted_study_begins_anew_under_the_same_run_id(url: sa.URL) -> None:
    for _ in range(2):
        with started(spec_for(trials=6), url) as run:
            work(run)
            assert run.snapshot().finished == 6
        assert len(finished(url)) == 6
        with opened_storage(url) as storage:
            optuna.delete_study(study_name="study", storage=storage)


def test_a_study_that_is_deleted_in_mid_run_ends_its_workers_and_is_told(url: sa.URL) -> None:
    with started(spec_for(), url) as run:
        with worker_of(run) as source:
            trial = next_trial(source)
            with opened_storage(url) as storage:
                optuna.delete_study(study_name="study", storage=storage)
            source.tell(trial, DONE)
            assert source.ask() is None
        with pytest.raises(StudyGoneError):
            run.snapshot()
    assert rows(url, "trials") == 0


@pytest.mark.parametrize(("failures_count", "ran"), [(False, 12), (True, 11)])
def test_a_trial_that_somebody_else_failed_is_counted_as_it_is_stored(
    file: str, failures_count: bool, ran: int
) -> None:
    """The trial's worker says that it is complete, and must not count it so."""
    with started(spec_for(trials=12, stop=StopSpec(failures_count=failures_count)), file) as run:
        with worker_of(run) as source:
            trial = next_trial(source)
            close_by_hand(file, trial.number, state=TrialState.FAIL)
            trial.set_user_attr("late", 1)
            source.tell(trial, DONE)
        work(run)
        assert (run.snapshot().finished, run.snapshot().failed) == (ran, 1)
    assert len(finished(file)) == ran
    assert stored(file)[0].state == TrialState.FAIL


def test_a_trial_that_somebody_else_completed_counts_once(file: str) -> None:
    with started(spec_for(trials=4), file) as run:
        with worker_of(run) as source:
            trial = next_trial(source)
            close_by_hand(file, trial.number, values=7.0)
            source.tell(trial, DONE)
        work(run)
    assert [t.number for t in finished(file)] == [0, 1, 2, 3]
    assert stored(file)[0].value == 7.0


def test_a_worker_that_was_taken_for_dead_changes_nothing_and_its_point_is_tried_again(url: sa.URL) -> None:
    with started(spec_for(trials=3), url) as run:
        with worker_of(run) as slow, worker_of(run, "other") as other:
            trial = next_trial(slow)
            other._run.release(other._run.tally()[1][0])
            trial.set_user_attr("late", 1)
            slow.tell(trial, DONE)
            again = next_trial(other)
            assert {n: again.suggest_float(n, -10, 10) if n == "x" else again.suggest_int(n, -5, 5) for n in XY} == (
                trial.params
            )
            other.tell(again, DONE)
        work(run)
        assert (run.snapshot().finished, run.snapshot().failed) == (3, 0)
    lost, retried = stored(url)[:2]
    assert (lost.state, error_of(lost), lost.user_attrs) == (TrialState.FAIL, LOST, {})
    assert (marks_of(retried).retried_from, marks_of(retried).retries) == (0, 1)


def test_a_worker_that_lives_is_not_taken_for_dead(file: str) -> None:
    with started(spec_for(coordinator=CoordinatorSpec(heartbeat_s=0.2)), file) as run, worker_of(run) as source:
        trial, seen = next_trial(source), source._run.tally()[1][0]
        source._run.storage.put(beat=True)
        source._run.release(seen)
        source.tell(trial, DONE)
    assert len(finished(file)) == 1


def test_a_claim_without_beats_is_stale_after_the_grace_and_a_beating_one_is_not(url: sa.URL) -> None:
    with started(spec_for(), url) as run, worker_of(run, "silent") as silent, worker_of(run, "alive") as alive:
        first, _ = next_trial(silent), next_trial(alive)
        watch = StaleWatch(grace_s=0.0)
        assert watch.stale(alive._run.tally()[1]) == []
        alive._run.storage.put(beat=True)
        assert [claim.number for claim in watch.stale(alive._run.tally()[1])] == [first.number]


@pytest.mark.parametrize("ended_well", [False, True])
def test_a_worker_of_an_earlier_start_is_shut_out(file: str, ended_well: bool) -> None:
    """Its driver was killed, or has closed the run, while it works on."""
    earlier = started(spec_for(trials=4), file)
    run = earlier.__enter__()
    with worker_of(run) as old:
        trial = next_trial(old)
        if ended_well:
            earlier.__exit__(None, None, None)
        with started(spec_for(trials=4), file) as new:
            old.tell(trial, DONE)
            assert old.ask() is None
            work(new)
    trials = stored(file)
    assert Counter(t.state for t in trials) == {TrialState.COMPLETE: 4, TrialState.FAIL: 1}
    assert error_of(trials[0]) == LOST


def test_lost_trials_do_not_count_and_are_tried_a_few_times_only(file: str) -> None:
    stop = StopSpec(max_retries=1, max_failures=1)
    for _ in range(2):
        with started(spec_for(trials=2, stop=stop), file, ended_well=False) as run, worker_of(run) as source:
            next_trial(source)
    with started(spec_for(trials=2, stop=stop), file) as run:
        work(run)
    trials = stored(file)
    assert [t.state.name for t in trials] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[0].params == trials[1].params != trials[2].params


@pytest.mark.parametrize("stop", [StopSpec(max_consecutive_failures=3), StopSpec(max_failures=3)])
def test_a_limit_on_failures_holds_within_one_trial_though_nobody_watches(file: str, stop: StopSpec) -> None:
    with started(spec_for(stop=stop), file) as run:
        assert work(run, fails) == 3
        with pytest.raises(TrialLimitError, match=r"3 trials failed.*the first, trial 0: ValueError: no luck"):
            run.watch(run.snapshot())


def test_failures_of_an_earlier_start_are_not_counted_against_this_one(file: str) -> None:
    stop = StopSpec(max_failures=3)
    for _ in range(2):
        with started(spec_for(stop=stop), file, ended_well=False) as run:
            work(run, fails, most=2)
            run.watch(run.snapshot())


def test_the_target_value_ends_the_run_within_one_trial(file: str) -> None:
    with started(spec_for(trials=50, stop=StopSpec(target_value=0.0)), file) as run:
        ran = work(run, lambda trial: float(5 - trial.number))
        assert ran == 6
        assert run.stop_reason() == "the target value 0 was reached"


def test_a_worker_that_is_started_again_does_not_repeat_its_samples(file: str) -> None:
    with started(spec_for(trials=6), file) as run:
        work(run, most=3)
        work(run)
    assert len({t.params["x"] for t in stored(file)}) == 6


def test_the_only_worker_samples_what_the_driver_would(file: str, tmp_path: Path) -> None:
    with started(spec_for(trials=25), file) as run:
        work(run)
    other = f"sqlite:///{tmp_path}/driver.sqlite3"
    run_by_driver(spec_for(trials=25), other)
    assert [t.params for t in stored(file)] == [t.params for t in stored(other)]


def test_an_error_is_cut_to_its_end(url: sa.URL) -> None:
    def fails_at_length(_: Any) -> float:
        raise ValueError("🚀" * 100_000 + "the end")

    with started(spec_for(trials=1), url) as run:
        assert work(run, fails_at_length, most=1) == 1
    error = error_of(stored(url)[0])
    assert error is not None
    assert error.endswith("the end")
    assert len(error) == 5000


def test_what_is_queued_is_tried_first_and_nothing_waits_in_the_study_afterwards(file: str) -> None:
    sets = tuple({"x": float(n), "y": n} for n in range(5))
    with started(spec_for(trials=3, enqueue=sets), file) as run:
        work(run)
    assert [t.params for t in stored(file)] == list(sets[:3])
    with started(spec_for(trials=5, enqueue=sets), file, ended_well=False) as run, worker_of(run) as source:
        next_trial(source)
    assert not stored(file, OPEN)
    with started(spec_for(trials=5, enqueue=sets), file) as run:
        work(run)
    assert [t.params for t in finished(file)] == list(sets)


def test_a_trial_that_a_person_queued_is_taken_and_belongs_to_the_run(url: sa.URL) -> None:
    with started(spec_for(trials=2), url) as run:
        work(run, most=1)
        with opened_storage(url) as storage:
            optuna.load_study(study_name="study", storage=storage).enqueue_trial({"x": 1.5, "y": 2}, {"who": "me"})
        work(run)
    assert len(finished(url)) == 2
    assert stored(url)[1].params == {"x": 1.5, "y": 2}
    assert stored(url)[1].user_attrs == {"who": "me"}
    assert marks_of(stored(url)[1]) == TrialMarks("one", "worker")


def test_a_waiting_trial_that_has_parameters_is_run_with_them(file: str) -> None:
    begun = optuna.trial.create_trial(
        state=TrialState.WAITING, params={"x": 2.5}, distributions={"x": FloatDistribution(-10, 10)}
    )
    with started(spec_for(trials=2), file) as run:
        with opened_storage(file) as storage:
            optuna.load_study(study_name="study", storage=storage).add_trial(begun)
        work(run)
    assert [t.state.name for t in stored(file)] == ["COMPLETE"] * 2
    assert stored(file)[0].params["x"] == 2.5


class LosesAnswers(Database):
    """A database whose connection breaks in every transaction once: before its commit, or just after it."""

    breaks_after = False
    _broken = False

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._broken = not self._broken
        with super().transaction() as transaction:
            if self._broken and not self.breaks_after:
                transaction.commit = transaction.run_and_commit = broken  # type: ignore[method-assign, assignment]
            yield transaction
        if self._broken and self.breaks_after:
            self.close()
            raise ConnectionError("broken after the commit")


def broken(*_: Any) -> None:
    raise ConnectionError("broken before the commit")


@pytest.mark.parametrize("after", [False, True])
def test_a_commit_that_nobody_confirmed_is_counted_once(
    url: sa.URL, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LosesAnswers, "breaks_after", after)
    monkeypatch.setattr(patient, "Database", LosesAnswers)
    monkeypatch.setattr(patient, "pause", lambda attempt: None)
    sets = ({"x": 1.0, "y": 1}, {"x": 2.0, "y": 2})

    def reports(trial: SharedTrial) -> float:
        trial.report(1.0, 0)
        trial.set_user_attr("a", 1)
        trial.storage.put()
        trial.set_user_attr("a", 2)
        return bowl(trial)

    with started(spec_for(trials=4, enqueue=sets), url) as run:
        with worker_of(run) as source:
            next_trial(source)
            source._run.release(source._run.tally()[1][0])
        assert work(run, reports) == 4
        assert (run.snapshot().finished, run.snapshot().failed) == (4, 0)
    trials = stored(url)
    assert [t.state.name for t in trials] == ["FAIL"] + ["COMPLETE"] * 4
    assert [t.params["x"] for t in trials[:3]] == [1.0, 2.0, 1.0]
    assert all(t.user_attrs["a"] == 2 and t.intermediate_values == {0: 1.0} for t in trials[1:])


def test_queued_parameters_that_do_not_fit_fail_their_trial_only(file: str) -> None:
    with started(spec_for(trials=2), file) as run:
        with opened_storage(file) as storage:
            optuna.load_study(study_name="study", storage=storage).enqueue_trial({"x": "text", "y": 2})
        work(run)
    assert [t.state.name for t in stored(file)] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_data_that_the_database_refuses_fail_their_trial_only(mysql_server: MysqlServer) -> None:
    """In a database that takes names for one which differ in case."""
    url = new_database(mysql_server)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    engine.dispose()

    def clashes_once(trial: Any) -> float:
        trial.set_user_attr("acc", 1)
        if trial.number == 1:
            trial.set_user_attr("ACC", 2)
        return bowl(trial)

    with started(spec_for(trials=3), url) as run:
        assert work(run, clashes_once) == 4
    trials = stored(url)
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "takes two names of this trial for one" in (error_of(trials[1]) or "")


@pytest.mark.parametrize(
    ("key", "value"), [("a" * 600, 1), ("a", "x" * 70_000), ("\ud800", 1), ("a", object()), ("a", {1, 2})]
)
def test_an_attribute_that_no_database_holds_fails_its_trial_only(file: str, key: str, value: Any) -> None:
    def sets_it_once(trial: Any) -> float:
        if trial.number == 0:
            trial.set_user_attr(key, value)
        return bowl(trial)

    with started(spec_for(trials=2), file) as run:
        assert work(run, sets_it_once) == 3
    assert [t.state.name for t in stored(file)] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_an_attribute_is_stored_as_it_was_when_it_was_set(file: str) -> None:
    def changes_it_afterwards(trial: Any) -> float:
        value = {"a": 1}
        trial.set_user_attr("value", value)
        value["a"] = 2
        return bowl(trial)

    with started(spec_for(trials=1), file) as run:
        work(run, changes_it_afterwards)
    assert stored(file)[0].user_attrs["value"] == {"a": 1}


def test_choices_that_python_takes_for_equal_are_stored_and_tried_again_as_they_were_chosen(file: str) -> None:
    chosen: list[Any] = []

    def chooses(trial: Any) -> float:
        chosen.append(trial.suggest_categorical("c", [1, True, 1.0]))
        assert trial.suggest_categorical("c", [1, True, 1.0]) is chosen[-1]
        return 1.0

    with started(spec_for(trials=8, search_space={}, enqueue=({"c": True}, {"c": 1.0})), file) as run:
        with worker_of(run) as source:
            chooses(next_trial(source))
            source._run.release(source._run.tally()[1][0])
        work(run, chooses)
    found = [t.params["c"] for t in stored(file)]
    assert [(type(c), c) for c in found] == [(type(c), c) for c in chosen]
    assert [type(c) for c in found[:2]] == [bool, float]
    assert sum(c is True for c in found) >= 2, "the lost one was tried again"


def test_an_objective_may_use_the_names_of_the_runs_own_notes(file: str) -> None:
    attrs = {"run_id": "another", "worker": 1, "retries": 99, "retried_from": 0, "error": LOST}

    def names(trial: Any) -> float:
        for key, value in attrs.items():
            trial.set_user_attr(key, value)
        return fails(trial) if trial.number == 0 else 1.0

    with started(spec_for(trials=2), file) as run:
        work(run, names)
        assert (run.snapshot().finished, run.snapshot().failed) == (2, 1)
    assert [t.user_attrs for t in stored(file)] == [attrs] * 3
    assert [t.number for t in finished(file)] == [1, 2]


def test_a_pickled_trial_does_not_hold_the_database_and_changes_nothing(file: str) -> None:
    def pickles(trial: Any) -> float:
        text = pickle.dumps(trial)
        assert file.removeprefix("sqlite:///").encode() not in text
        copied = pickle.loads(text)
        assert [t.number for t in copied.study.trials] == [trial.number]
        refused: list[Callable[[], Any]] = [
            lambda: copied.report(1.0, 0),
            lambda: copied.set_user_attr("k", 1),
            lambda: copied.suggest_float("z", 0, 1),
            lambda: copied.study.set_user_attr("k", 1),
        ]
        for change in refused:
            with pytest.raises(RuntimeError, match="this trial was pickled"):
                change()
        return 1.0

    with started(spec_for(trials=1), file) as run:
        assert work(run, pickles) == 1
    (trial,) = stored(file)
    assert (trial.state, trial.user_attrs) == (TrialState.COMPLETE, {})


def test_a_running_trial_is_seen_with_its_parameters_by_everybody(url: sa.URL) -> None:
    with started(spec_for(), url) as run, worker_of(run) as source:
        trial = next_trial(source)
        (seen,) = stored(url, (TrialState.RUNNING,))
        assert seen.params == trial.params
        assert (seen.user_attrs, marks_of(seen)) == ({}, TrialMarks("one", "worker"))
        with worker_of(run, "other") as other:
            mate = next_trial(other)
            assert [t.params for t in mate.study.get_trials(states=(TrialState.RUNNING,))] == [
                trial.params,
                mate.params,
            ]


def test_a_trial_has_all_of_its_study(url: sa.URL) -> None:
    found: list[Any] = []

    def reads(trial: optuna.Trial) -> float:
        study = trial.study
        if trial.number == 3:
            study.set_user_attr("note", "from trial 3")
            study.enqueue_trial({"x": 1.0, "y": 1})
            study.add_trial(optuna.trial.create_trial(value=-1.0))
            found.extend([study.best_value, study.user_attrs, len(study.trials_dataframe()), study.metric_names])
            with pytest.raises(RuntimeError, match="an objective cannot call"):
                study.optimize(reads, n_trials=1)
            with pytest.raises(RuntimeError, match="an objective cannot call"):
                study.ask()
        trial.report(1.0, 0)
        return 5.0 if trial.should_prune() else bowl(trial)

    with started(spec_for(trials=5), url) as run:
        work(run, reads)
    trials = stored(url)
    assert found == [-1.0, {"note": "from trial 3"}, 6, ["value"]]
    assert [t.state.name for t in trials] == ["COMPLETE"] * 6
    assert trials[4].params == {"x": 1.0, "y": 1}
    assert [t.intermediate_values for t in trials[:4]] == [{0: 1.0}] * 4


def test_stop_of_a_study_ends_the_run(file: str) -> None:
    def stops(trial: Any) -> float:
        trial.study.stop()
        return bowl(trial)

    with started(spec_for(), file) as run:
        assert work(run, stops) == 1
        assert run.stop_reason() == "the objective in worker worker called study.stop()"


def test_a_sampler_that_has_tried_everything_ends_the_run(file: str) -> None:
    grid = ComponentSpec("GridSampler", {"search_space": {"x": [1.0, 2.0], "y": [1]}})
    with started(spec_for(sampler=grid), file) as run:
        assert work(run) == 2
        assert run.stop_reason() == "the sampler has tried all combinations of its search space"


def test_a_study_whose_numbers_have_gaps_is_refused_in_words(file: str) -> None:
    with started(spec_for(trials=2), file) as run:
        work(run)
    engine = sa.create_engine(file)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trials SET number = 7 WHERE number = 1")
    engine.dispose()
    with pytest.raises(Exception, match="not numbered from 0 without gaps"), started(spec_for(trials=3), file):
        pass


def test_a_trial_takes_few_commits_and_statements(mysql_server: MysqlServer) -> None:
    """Plain Optuna sends about 31 statements and 7 commits for it, each in a message of its own."""
    url = new_database(mysql_server)
    with started(spec_for(trials=400), url) as run:
        work(run, most=50)
        engine = sa.create_engine(text_of(url), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection, worker_of(run) as source:

            def commands(name: str) -> int:
                row = connection.exec_driver_sql(f"SHOW GLOBAL STATUS LIKE '{name}'").one()
                return int(row[1])

            source.tell(next_trial(source), DONE)
            commits, packets = commands("Com_commit"), commands("Com_select")
            for _ in range(10):
                source.tell(next_trial(source), DONE)
            assert (commands("Com_commit") - commits) / 10 <= 5
            assert (commands("Com_select") - packets) / 10 <= 20
        engine.dispose()
