"""A study has one holder at a time, by its own database's word."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from init.local.mysql import MysqlServer
from tests.support.connections import admin_fields
from tuning_pipeline.database.lease_table import LEASES, make_lease_table
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.leases import Lease, Leases, lease_engine

ONE = RunIdentity("tune_a", "manual__1", "2026-11-27T11:13:13.247611+00:00")
TWO = RunIdentity("tune_a", "manual__2", "2026-11-27T11:13:14.247611+00:00")


@pytest.fixture(params=["sqlite", "mysql"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        url = sa.URL.create("sqlite", database=str(tmp_path_factory.mktemp("lease") / "study.db"))
    else:
        url = database(request.getfixturevalue("mysql_server"))
    engine = lease_engine(url)
    make_lease_table(engine)
    with engine.begin() as connection:
        connection.execute(sa.delete(LEASES))
    yield engine
    engine.dispose()


def database(server: MysqlServer) -> sa.URL:
    fields = admin_fields(server)
    url = sa.URL.create(
        "mysql+pymysql", fields["login"], fields["password"], server.host, server.port, database="mysql"
    )
    admin = lease_engine(url)
    with admin.begin() as connection:
        connection.execute(sa.text("CREATE DATABASE IF NOT EXISTS optuna_leases CHARACTER SET utf8mb4"))
    admin.dispose()
    return url.set(database="optuna_leases")


def never(lease: Lease) -> bool:
    return False


def test_the_second_is_told_who_holds_the_study(engine: sa.Engine) -> None:
    leases = Leases(engine)
    assert leases.take("s", ONE, never) is None
    found = leases.take("s", TWO, never)
    assert found is not None
    assert (found.holder, found.busy, found.idle_s < 60) == (ONE, True, True)


def test_a_run_takes_again_what_it_holds(engine: sa.Engine) -> None:
    leases = Leases(engine)
    assert leases.take("s", ONE, never) is None
    assert leases.renew("s", ONE, busy=False)
    assert leases.take("s", ONE, never) is None
    found = leases.look("s")
    assert found is not None
    assert found.busy


def test_a_study_given_back_is_free_and_only_its_holder_gives_it_back(engine: sa.Engine) -> None:
    leases = Leases(engine)
    leases.take("s", ONE, never)
    leases.give_back("s", TWO)
    assert leases.take("s", TWO, never) is not None
    leases.give_back("s", ONE)
    assert leases.take("s", TWO, never) is None


def test_a_lease_whose_holder_is_gone_is_taken_over(engine: sa.Engine) -> None:
    leases = Leases(engine)
    leases.take("s", ONE, never)
    assert leases.take("s", TWO, lambda lease: lease.holder == ONE) is None
    assert not leases.renew("s", ONE, busy=True)
    found = leases.look("s")
    assert found is not None
    assert found.holder == TWO


def test_studies_whose_names_differ_in_case_have_a_lease_each(engine: sa.Engine) -> None:
    leases = Leases(engine)
    assert leases.take("q", ONE, never) is None
    assert leases.take("Q", TWO, never) is None


def test_a_name_may_be_as_long_as_optuna_takes_it(engine: sa.Engine) -> None:
    assert Leases(engine).take("s" * 512, ONE, never) is None


def test_of_many_at_once_one_gets_the_study(engine: sa.Engine) -> None:
    runs = [RunIdentity("d", f"r{i}", ONE.made) for i in range(8)]
    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda run: Leases(engine).take("s", run, never), runs))
        (holder,) = [run for run, other in zip(runs, found, strict=True) if other is None]
        assert {other.holder for other in found if other is not None} == {holder}
        Leases(engine).give_back("s", holder)
