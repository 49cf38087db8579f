"""`coordination: database`: the server goes away in the middle of a run and comes back; nothing is lost or doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import optuna
import pymysql
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from init.local.mysql import MysqlServer
from optuna_spark.driver.run import tune
from optuna_spark.spec.sections import CoordinatorSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_marks import run_id_of
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def proxy(mysql_server: MysqlServer) -> Iterator[Proxy]:
    through = Proxy(mysql_server.port)
    yield through
    through.close()


@pytest.fixture
def url(mysql_server: MysqlServer, proxy: Proxy) -> str:
    user, password = mysql_server.admin_user, mysql_server.admin_password
    with pymysql.connect(host=mysql_server.host, port=mysql_server.port, user=user, password=password) as connection:
        connection.cursor().execute("CREATE DATABASE away CHARACTER SET utf8mb4")
    url = sa.URL.create("mysql+pymysql", user, password, "127.0.0.1", proxy.port, "away")
    return url.render_as_string(hide_password=False)


def test_a_run_outlasts_a_server_that_goes_away_and_comes_back(
    url: str, proxy: Proxy, mysql_server: MysqlServer
) -> None:
    spec = TuningSpec(
        "study",
        objective="sample_objectives:slow_parabola",
        trials=30,
        run_id="away",
        distribution="local",
        coordination="database",
        coordinator=CoordinatorSpec(heartbeat_s=0.5),
    )
    run = threading.Thread(target=tune, args=(spec, url), daemon=True)
    run.start()
    wait_for_trials(url, 5)
    proxy.target = None
    proxy.cut()
    time.sleep(3)
    proxy.target = mysql_server.port
    run.join(120)
    assert not run.is_alive()
    study = optuna.load_study(study_name="study", storage=url)
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    assert len([t for t in finished if run_id_of(t) == spec.run_id]) == 30
    assert not study.get_trials(states=(TrialState.RUNNING,))


def wait_for_trials(url: str, count: int) -> None:
    engine = sa.create_engine(url)

    def finished() -> int:
        try:
            with engine.connect() as connection:
                query = sa.text("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'")
                return int(connection.execute(query).scalar_one())
        except sa.exc.ProgrammingError:
            return 0  # the tables are not there yet

    wait_until(lambda: finished() >= count, f"{count} trials")
    engine.dispose()
