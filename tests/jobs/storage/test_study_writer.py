"""What the coordinator writes is what Optuna's RDBStorage would have written, and it is written exactly once."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.database.connection import Database, Transaction
from optuna_spark.errors import StorageError, StudyGoneError
from optuna_spark.storage.optuna_storage import create_storage
from optuna_spark.storage.study_writer import StudyWriter
from optuna_spark.storage.trial_record import TrialRecord
from tests.support.coordination import new_database

START = datetime.datetime(2026, 3, 29, 2, 30, 59, 987654)
END = datetime.datetime(2026, 3, 29, 14, 0, 0, 1)
TABLES = [
    "trials",
    "trial_params",
    "trial_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_intermediate_values",
]


@pytest.fixture(params=["sqlite", "mysql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[Any]:
    """Two empty databases of a kind."""
    if request.param == "sqlite":
        return [f"sqlite:///{tmp_path}/{name}.sqlite3" for name in ("one", "two")]
    server = request.getfixturevalue("mysql_server")
    return [new_database(server), new_database(server)]


def study_in(url: Any, directions: int = 1) -> optuna.Study:
    return optuna.create_study(study_name="study", storage=create_storage(url), directions=["minimize"] * directions)


def writer_for(url: Any, *trials: FrozenTrial) -> StudyWriter:
    writer = StudyWriter(create_storage(url), Database(url), "study", "one")
    writer.take_over()
    writer.resume([record(t) for t in trials])
    return writer


def record(trial: FrozenTrial) -> TrialRecord:
    return TrialRecord.of(trial, trial.datetime_start)


def finished(number: int, state: TrialState = TrialState.COMPLETE, **changes: Any) -> FrozenTrial:
    trial = create_trial(**{"state": state, **changes})
    trial.number = number
    trial.datetime_start, trial.datetime_complete = START, END
    return trial


def all_kinds() -> list[FrozenTrial]:
    """Trials with every distribution, number and attribute a study can hold."""
    distributions = {
        "float": FloatDistribution(-1.5, 2.5),
        "log": FloatDistribution(1e-10, 1.0, log=True),
        "step": FloatDistribution(0.0, 1.0, step=0.1),
        "int": IntDistribution(-3, 12, step=3),
        "int_log": IntDistribution(1, 1024, log=True),
        "mixed": CategoricalDistribution([None, True, 1.5, 7, "größer 'x\" %s {y} \\ 漢"]),
    }
    params = {"float": 0.1 + 0.2, "log": 1e-10, "step": 0.3, "int": -3, "int_log": 1024, "mixed": None}
    attrs = {"text": "größer 漢 %s", "nested": {"a": [1, 2.5, None]}, "nan": math.inf, "": "empty name"}
    steps = {0: 1.0, 3: math.nan, 4: math.inf, 5: -math.inf, 2**31 - 1: 1e-308}
    full: dict[str, Any] = {
        "params": params,
        "distributions": distributions,
        "user_attrs": attrs,
        "system_attrs": {"s": {"n": 1}},
    }
    return [
        finished(0, values=[0.1 + 0.2], intermediate_values=steps, **full),
        finished(1, values=[math.inf]),
        finished(2, values=[-math.inf], params={"mixed": 1.5}, distributions={"mixed": distributions["mixed"]}),
        finished(3, TrialState.PRUNED, values=[1.0], intermediate_values={1: 1.0}),
        finished(4, TrialState.PRUNED),
        finished(5, TrialState.FAIL, user_attrs={"error": "Traceback\n  ...\nValueError: 100%"}),
    ]


def rows_of(url: Any) -> dict[str, list[tuple[Any, ...]]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = {t: sorted(map(repr, connection.exec_driver_sql(f"SELECT * FROM {t}"))) for t in TABLES}
    engine.dispose()
    return found  # type: ignore[return-value]


def test_trials_read_back_exactly_as_if_optuna_had_written_them(urls: list[Any]) -> None:
    ours, optunas = (study_in(url) for url in urls)
    for trial in all_kinds():
        optunas.add_trial(trial)
    writer_for(urls[0]).write([record(t) for t in all_kinds()], {})
    assert [repr(t) for t in ours.trials] == [repr(t) for t in optunas.trials]  # repr: NaN is not equal to itself


def test_the_rows_are_the_same_as_those_of_optuna(urls: list[Any]) -> None:
    _, optunas = (study_in(url) for url in urls)
    writer = writer_for(urls[0])
    for trial in all_kinds():
        optunas.add_trial(trial)
        writer.write([record(trial)], {})
    ours, theirs = (rows_of(url) for url in urls)
    for table in TABLES:
        assert without_row_ids(ours[table]) == without_row_ids(theirs[table])


def without_row_ids(rows: list[Any]) -> list[str]:
    return sorted(row.split(", ", 1)[1] for row in rows)


def test_several_values_are_stored_in_their_order(urls: list[Any]) -> None:
    ours, optunas = (study_in(url, directions=3) for url in urls)
    trial = finished(0, values=[3.0, math.inf, 1.0])
    optunas.add_trial(trial)
    writer_for(urls[0]).write([record(trial)], {})
    assert ours.trials == optunas.trials


def test_a_trial_that_grows_step_by_step_ends_as_one_that_was_written_at_once(urls: list[Any]) -> None:
    ours, optunas = (study_in(url) for url in urls)
    end = all_kinds()[0]
    optunas.add_trial(end)
    writer = writer_for(urls[0])
    for share in range(6):
        part = create_trial(state=TrialState.RUNNING, **shares(end, share))
        part.number, part.datetime_start = 0, START
        writer.write([record(part)], {})
        assert ours.trials[0].params == part.params
        assert ours.trials[0].state == TrialState.RUNNING
    writer.write([record(end)], {})
    assert repr(ours.trials) == repr(optunas.trials)


def shares(trial: FrozenTrial, count: int) -> dict[str, Any]:
    def first(items: dict[Any, Any]) -> dict[Any, Any]:
        return dict(list(items.items())[:count])

    return {
        "params": first(trial.params),
        "distributions": first(trial.distributions),
        "user_attrs": first(trial.user_attrs) | ({"text": "old"} if count else {}),
        "intermediate_values": first(trial.intermediate_values),
    }


def test_trials_of_another_study_in_between_do_not_matter(urls: list[Any]) -> None:
    study = study_in(urls[0])
    other = optuna.create_study(study_name="other", storage=create_storage(urls[0]))
    writer = writer_for(urls[0])
    for trial in all_kinds():
        other.add_trial(trial)
        writer.write([record(trial)], {})
        other.add_trial(trial)
    assert [t.number for t in study.trials] == list(range(6))


class LosesAnswers(Database):
    """A database whose connection breaks in one transaction: before its commit, or just after it."""

    breaks: str | None = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with super().transaction() as transaction:
            if self._now("before"):
                transaction.run_and_commit = broken_before_the_commit  # type: ignore[method-assign, assignment]
            yield transaction
        if self._now("after"):
            self.close()
            raise ConnectionError("broken after the commit")

    def _now(self, when: str) -> bool:
        now = self.breaks == when
        self.breaks = None if now else self.breaks
        return now


def broken_before_the_commit(*_: Any) -> None:
    raise ConnectionError("broken before the commit")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_group_whose_commit_broke_is_written_once_whether_it_had_landed_or_not(urls: list[Any], when: str) -> None:
    study = study_in(urls[0])
    database = LosesAnswers(urls[0])
    writer = StudyWriter(create_storage(urls[0]), database, "study", "one")
    writer.take_over()
    running = create_trial(state=TrialState.RUNNING)
    running.number, running.datetime_start = 0, START
    groups = [[record(running)], [record(t) for t in all_kinds()[:2]], [record(all_kinds()[2])]]
    for group in groups:
        database.breaks = when
        with pytest.raises(ConnectionError):
            writer.write(group, {"key": "value"})
        writer.write(group, {"key": "value"})
    assert without_ids(study.trials) == without_ids(as_optuna_stores(urls[1], all_kinds()[:3]))


def without_ids(trials: list[FrozenTrial]) -> list[str]:
    """A transaction that was rolled back uses up row ids, which mean nothing; no more than the order of attributes."""
    return [
        repr((t.number, t.state, t.values, t.datetime_start, t.datetime_complete, *map(_by_key, _parts(t))))
        for t in trials
    ]


def _parts(trial: FrozenTrial) -> tuple[dict[Any, Any], ...]:
    return trial.params, trial.distributions, trial.user_attrs, trial.system_attrs, trial.intermediate_values


def _by_key(part: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(part.items(), key=lambda item: item[0])


def as_optuna_stores(url: Any, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    study = study_in(url)
    study.add_trials(trials)
    return study.trials


def test_statements_sent_together_keep_their_texts_apart(urls: list[Any]) -> None:
    study = study_in(urls[0])
    texts = [
        "'; DELETE FROM trials; --",
        "100 % %s %(x)s",
        "\\",
        "\\'; --",
        "é 文 \N{PARTY POPPER}",
        " VALUES (1), (2)",
    ]
    trials = [create_trial(state=TrialState.COMPLETE, value=0.0, user_attrs={f"t{i}": t}) for i, t in enumerate(texts)]
    # More than is sent at a time; a TEXT of MySQL holds 64 KiB.
    many = [create_trial(state=TrialState.COMPLETE, value=1.0, user_attrs={"x": "y" * 60_000}) for _ in range(40)]
    for number, trial in enumerate(trials + many):
        trial.number, trial.datetime_start, trial.datetime_complete = number, START, START
    writer_for(urls[0]).write([record(t) for t in trials + many], {"quoted": "';"})
    assert [t.user_attrs for t in study.trials] == [t.user_attrs for t in trials + many]


def test_a_second_driver_stops_the_first_one(urls: list[Any]) -> None:
    study = study_in(urls[0])
    first = writer_for(urls[0])
    first.write([record(all_kinds()[0])], {})
    second = writer_for(urls[0])
    with pytest.raises(StorageError, match="taken from this run: run 'one'"):
        first.write([record(all_kinds()[1])], {})
    second.write([record(all_kinds()[1])], {})
    assert len(study.trials) == 2


def test_a_trial_added_by_somebody_else_is_noticed_and_nothing_of_the_group_is_written(urls: list[Any]) -> None:
    study = study_in(urls[0])
    writer = writer_for(urls[0])
    study.enqueue_trial({"x": 1})
    with pytest.raises(StorageError, match="another process added a trial"):
        writer.write([record(all_kinds()[0])], {})
    assert [t.state for t in study.trials] == [TrialState.WAITING]


def test_a_trial_finished_by_somebody_else_is_noticed(urls: list[Any]) -> None:
    study = study_in(urls[0])
    running = create_trial(state=TrialState.RUNNING)
    running.number, running.datetime_start = 0, START
    writer = writer_for(urls[0])
    writer.write([record(running)], {})
    study.tell(0, state=TrialState.FAIL)
    with pytest.raises(StorageError, match="finished or deleted"):
        writer.write([record(finished(0, values=[1.0]))], {})


def test_a_study_with_deleted_trials_is_refused(urls: list[Any]) -> None:
    study_in(urls[0])
    writer_for(urls[0]).write([record(t) for t in all_kinds()], {})
    engine = sa.create_engine(urls[0])
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM trials WHERE number = 4")
    engine.dispose()
    with pytest.raises(StorageError, match="without gaps"):
        writer_for(urls[0])


def test_a_study_that_was_deleted_meanwhile_is_noticed(urls: list[Any]) -> None:
    study_in(urls[0])
    writer = writer_for(urls[0])
    optuna.delete_study(study_name="study", storage=create_storage(urls[0]))
    with pytest.raises(StudyGoneError, match="study 'study' was deleted while this run worked on it"):
        writer.write([record(all_kinds()[0])], {})


def test_study_attributes_are_stored_with_the_trials(urls: list[Any]) -> None:
    study_in(urls[0])
    writer = writer_for(urls[0])
    writer.write([], {"qmc": 1})
    writer.write([record(all_kinds()[0])], {"qmc": 2, "text": "größer"})
    storage = create_storage(urls[0])
    attrs = storage.get_study_system_attrs(storage.get_study_id_from_name("study"))
    assert (attrs["qmc"], attrs["text"]) == (2, "größer")


def test_user_attributes_of_the_study_are_stored_beside_the_system_ones(urls: list[Any]) -> None:
    study = study_in(urls[0])
    writer = writer_for(urls[0])
    writer.write([], {"k": 1}, {"k": {"a": None}, "größer": 1})
    writer.write([record(all_kinds()[0])], {}, {"größer": [2]})
    assert study.user_attrs == {"k": {"a": None}, "größer": [2]}
    storage = create_storage(urls[0])
    assert storage.get_study_system_attrs(storage.get_study_id_from_name("study"))["k"] == 1


class OldStorage(RDBStorage):
    """A storage that says it is older than it is."""

    def get_current_version(self) -> str:
        return "v3.0.0.d"


def test_another_schema_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.sqlite3"
    study_in(url)
    with pytest.raises(StorageError, match=r"schema v3\.0\.0\.d.*storage upgrade"):
        StudyWriter(OldStorage(url), Database(url), "study", "one")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)
