"""The budget of a run in the database: exact whoever asks, and recovered from workers that died."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from init.local.mysql import MysqlServer
from optuna_spark.database.engine import engine_options
from optuna_spark.spec.sections import StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.claims import Claims, Counts
from optuna_spark.wire.messages import Outcome
from optuna_spark.worker.database_source import DatabaseSource, SharedStudy, StaleWatch, close_abandoned
from tests.support.coordination import empty_database, new_database


@pytest.fixture(params=["sqlite", "mysql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database of a kind."""
    url = empty_database(request, tmp_path)
    engine = sa.create_engine(url, **engine_options(url))
    yield engine
    engine.dispose()


def test_a_budget_is_made_once_however_often_it_is_created(engine: sa.Engine) -> None:
    claims = Claims(engine, "run")
    claims.create(3)
    taken = claims.take_free("a")
    claims.create(3)
    assert taken is not None
    assert claims.counts() == Counts(free=2, claimed=1, done=0)


def test_two_runs_do_not_share_a_budget(engine: sa.Engine) -> None:
    one, two = Claims(engine, "one"), Claims(engine, "two")
    one.create(1)
    two.create(2)
    assert one.take_free("a") is not None
    assert one.take_free("a") is None
    assert two.counts() == Counts(free=2, claimed=0, done=0)


def test_workers_at_once_take_each_row_exactly_once(engine: sa.Engine) -> None:
    claims = Claims(engine, "run")
    claims.create(40)

    def take_all(worker: str) -> list[int]:
        mine = Claims(engine, "run")
        return [claim.slot for claim in iter(lambda: mine.take_free(worker), None)]

    with ThreadPoolExecutor(8) as pool:
        taken = [slot for slots in pool.map(take_all, map(str, range(8))) for slot in slots]
    assert sorted(taken) == list(range(40))


def test_a_row_changed_by_somebody_else_cannot_be_changed_with_an_old_view(engine: sa.Engine) -> None:
    claims = Claims(engine, "run")
    claims.create(1)
    first = claims.take_free("a")
    assert first is not None
    second = claims.change(first, "claimed", "b", 7)
    assert second is not None
    assert claims.change(first, "done", "a", 7) is None
    assert claims.counts().claimed == 1


def test_no_row_is_given_out_after_a_stop_reason_was_written(engine: sa.Engine) -> None:
    claims = Claims(engine, "run")
    claims.create(1)
    assert claims.stop_reason() is None
    claims.stop("the timeout of 1 s was reached")
    assert claims.stop_reason() == "the timeout of 1 s was reached"
    assert claims.take_free("a") is None


def test_a_claim_without_beats_is_stale_after_the_grace_and_a_beating_one_is_not(engine: sa.Engine) -> None:
    claims = Claims(engine, "run")
    claims.create(2)
    silent, alive = claims.take_free("silent"), claims.take_free("alive")
    assert silent is not None
    assert alive is not None
    watch = StaleWatch(grace_s=0.0)
    assert watch.stale(claims.held()) == []
    claims.change(alive, "claimed", "alive", None)
    assert [claim.worker for claim in watch.stale(claims.held())] == ["silent"]


# Each connection meets one deadlock: user variables outlive the rollback.
DEADLOCK = """CREATE TRIGGER deadlock BEFORE INSERT ON trial_params FOR EACH ROW BEGIN
    IF @met IS NULL THEN
        SET @met = 1;
        SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found when trying to get lock';
    END IF;
END"""


@pytest.mark.parametrize("failures_count", [True, False])
def test_a_trial_that_was_closed_as_lost_before_its_worker_told_it_is_not_spent(
    failures_count: bool, tmp_path: Path
) -> None:
    stop = StopSpec(failures_count=failures_count)
    spec = TuningSpec("study", trials=1, coordination="database", stop=stop)
    stored = SharedStudy.open(spec, f"sqlite:///{tmp_path}/s.db", "run")
    stored.claims.create(1)
    source = DatabaseSource(stored, "worker")
    trial = source.ask()
    assert trial is not None
    close_abandoned(stored)  # as a driver does that is ended, while this worker lives on
    source.tell(trial, Outcome(TrialState.COMPLETE, (1.0,)))
    assert stored.claims.counts() == Counts(free=1, claimed=0, done=0)
    source.close()


def test_a_deadlock_while_a_parameter_is_stored_costs_no_trial(mysql_server: MysqlServer) -> None:
    url = new_database(mysql_server).render_as_string(hide_password=False)
    stored = SharedStudy.open(TuningSpec("study", coordination="database"), url, "run")
    stored.claims.create(1)
    with stored.storage.engine.begin() as connection:
        connection.exec_driver_sql(DEADLOCK)
    source = DatabaseSource(stored, "worker")
    trial = source.ask()
    assert trial is not None
    suggested = trial.suggest_float("x", 0.0, 1.0)
    assert stored.study.trials[trial.number].params == {"x": suggested}
    source.close()
