"""A run on a real MySQL server with workers as real processes, while things are killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from init.local.mysql import MysqlServer
from optuna_spark.driver.coordinator import Endpoint
from optuna_spark.errors import StorageError
from optuna_spark.storage.trial_marks import marks_of
from tests.support.coordination import (
    Coordinator,
    admin_url,
    allow,
    bowl,
    check,
    finished,
    new_database,
    run,
    run_into_failure,
    slow,
    spec_for,
    start_processes,
    stored,
)
from tests.support.proxy import Proxy
from tests.support.servers import private_mysql
from tests.support.waiting import join, wait_until

WORKERS = 3


@pytest.fixture
def url(mysql_server: MysqlServer) -> sa.URL:
    return new_database(mysql_server)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "told.txt"
    file.touch()
    return file


def wait_for(url: Any, trials: int, running: int = 0) -> None:
    """Until so many trials of the study are complete, and so many of the others are in the database."""

    def reached() -> bool:
        try:
            states = [t.state for t in stored(url)]
        except (KeyError, sa.exc.SQLAlchemyError):
            return False  # the study is not there yet
        return states.count(TrialState.COMPLETE) >= trials and states.count(TrialState.RUNNING) >= running

    wait_until(reached, f"{trials} trials, and {running} running")


def test_workers_killed_at_any_moment_cost_no_trial_and_add_none(url: sa.URL, log: Path) -> None:
    with Coordinator(spec_for(trials=60, tasks=4), url) as coordinator:
        endpoint = coordinator.start()
        allow(log, 15)
        processes = start_processes(endpoint, 4, log)
        for done in (5, 15, 30):
            wait_for(url, done)
            victim = processes.pop(0)
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            processes += start_processes(endpoint, 1, log)
            allow(log, done + 25)
        allow(log, 1000)
        join(*processes)
        coordinator.raise_if_failed()
    check(url, 60, log)


def test_a_driver_killed_at_any_moment_is_resumed_by_the_next_one(url: sa.URL, log: Path) -> None:
    for done in (10, 20):
        kill_driver(url, log, trials=60, done=done)
    drive(url, log, 60)
    everything = check(url, 60, log)
    lost = {t.number for t in everything if t.state == TrialState.FAIL}
    assert lost == retried(everything)


def test_trials_that_run_when_their_driver_is_killed_are_closed_and_run_again(url: sa.URL, log: Path) -> None:
    kill_driver(url, log, trials=12, done=3, held=3)  # 3, 4 and 5 run
    kill_driver(url, log, trials=12, done=6, held=9)  # 6, 7 and 8 were those again; 9, 10 and 11 run
    drive(url, log, 12)
    everything = check(url, 12, log)
    lost = {t.number for t in everything if t.state == TrialState.FAIL}
    assert lost == retried(everything) == {3, 4, 5, 9, 10, 11}


def retried(trials: list[FrozenTrial]) -> set[int]:
    return {number for t in trials if (number := marks_of(t).retried_from) is not None}


def kill_driver(url: sa.URL, log: Path, trials: int, done: int, held: int | None = None) -> None:
    """Drive the study and end that process when so many trials are complete and all held ones are known to run."""
    driver = multiprocessing.get_context("spawn").Process(target=drive, args=(url, log, trials, held))
    driver.start()
    wait_for(url, done, running=0 if held is None else WORKERS)
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGKILL)
    join(driver)


def drive(url: sa.URL, log: Path, trials: int, held: int | None = None) -> None:
    with Coordinator(spec_for(trials=trials, tasks=WORKERS), url) as coordinator:
        join(*start_processes(coordinator.start(), WORKERS, log, held=held))


@contextlib.contextmanager
def through_proxy(url: sa.URL) -> Iterator[tuple[Proxy, sa.URL]]:
    proxy = Proxy(url.port)
    try:
        yield proxy, url.set(port=proxy.port)
    finally:
        proxy.close()


def test_connections_that_break_at_any_moment_lose_nothing_and_double_nothing(url: sa.URL, log: Path) -> None:
    stop = threading.Event()

    def cut_now_and_then() -> None:
        chance = random.Random(1)
        while not stop.wait(chance.uniform(0.001, 0.2)):
            proxy.cut()

    with through_proxy(url) as (proxy, fragile), Coordinator(spec_for(trials=150, tasks=3), fragile) as coordinator:
        endpoint = coordinator.start()
        cutter = threading.Thread(target=cut_now_and_then)
        cutter.start()
        join(*start_processes(endpoint, 3, log, seconds=0.0))
        stop.set()
        join(cutter)
        coordinator.raise_if_failed()
    check(url, 150, log)


def test_killed_sessions_lose_nothing(url: sa.URL, log: Path, mysql_server: MysqlServer) -> None:
    with Coordinator(spec_for(trials=100, tasks=2), url) as coordinator:
        processes = start_processes(coordinator.start(), 2, log, seconds=0.0)
        for done in (10, 40, 70):
            wait_for(url, done)
            kill_sessions(mysql_server, str(url.database))
        join(*processes)
        coordinator.raise_if_failed()
    check(url, 100, log)


def kill_sessions(server: MysqlServer, database: str) -> None:
    engine = sa.create_engine(admin_url(server))
    with engine.connect() as connection:
        query = sa.text("SELECT id FROM information_schema.processlist WHERE db = :db")
        for (number,) in connection.execute(query, {"db": database}):
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                connection.exec_driver_sql(f"KILL {number}")
    engine.dispose()


def test_a_server_killed_and_started_again_in_the_middle_loses_nothing(log: Path) -> None:
    with private_mysql() as server:
        url = new_database(server)
        with through_proxy(url) as (proxy, fragile):
            with Coordinator(spec_for(trials=80, tasks=2), fragile) as coordinator:
                processes = start_processes(coordinator.start(), 2, log)
                wait_for(url, 20)
                kill_server(server)
                proxy.cut()
                time.sleep(0.5)
                server.ensure()
                proxy.target = server.port
                join(*processes)
                coordinator.raise_if_failed()
            check(fragile, 80, log)


def kill_server(server: MysqlServer) -> None:
    pid = int((server.datadir / "server.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server.service.running(), "the server to end")


def test_a_lock_somebody_holds_is_waited_for(url: sa.URL) -> None:
    engine = sa.create_engine(url)

    def hold_study(trial: Any) -> float:
        if trial.number == 3:
            holder = engine.connect()
            holder.exec_driver_sql("SELECT * FROM studies FOR UPDATE")
            threading.Timer(1.5, holder.close).start()
        return bowl(trial)

    run(spec_for(trials=8), url, hold_study)
    engine.dispose()
    assert len(finished(url)) == 8


def test_a_database_that_is_gone_for_good_ends_the_run_with_a_clear_error(
    url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optuna_spark.storage.group_commit.PATIENCE_S", 1.0)
    with through_proxy(url) as (proxy, fragile):

        def cut(trial: Any) -> float:
            if trial.number == 3:
                proxy.target = None
                proxy.cut()
            return bowl(trial)

        with pytest.raises(StorageError, match="no MySQL server answers"):
            run_into_failure(spec_for(trials=8), fragile, cut, 30)
    assert len(finished(url)) == 3


def test_a_table_that_is_refused_ends_the_run_at_once(url: sa.URL) -> None:
    engine = sa.create_engine(url)

    def spoil(trial: Any) -> float:
        if trial.number == 2:
            with engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE trial_values")
        return bowl(trial)

    with pytest.raises(StorageError, match="trial_values"):
        run_into_failure(spec_for(trials=8), url, spoil, 10)
    engine.dispose()


def test_the_study_is_readable_through_optuna_at_any_moment(url: sa.URL, log: Path) -> None:
    seen: list[int] = []
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    with Coordinator(spec_for(trials=60, tasks=2), url) as coordinator:
        processes = start_processes(coordinator.start(), 2, log, seconds=0.1)
        while any(p.is_alive() for p in processes):
            (summary,) = optuna.get_all_study_summaries(text)
            trials = stored(url)
            assert [t.number for t in trials] == list(range(len(trials)))
            assert all(t.values for t in trials if t.state == TrialState.COMPLETE)
            seen.append(summary.n_trials)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_two_runs_on_two_studies_of_one_database_do_not_meet(url: sa.URL) -> None:
    threads = [
        threading.Thread(target=run, args=(spec_for(study_name=name, trials=40), url, slow(0.0), 2))
        for name in ("study", "other")
    ]
    run(spec_for(trials=1), url)
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    for summary in optuna.get_all_study_summaries(text):
        assert summary.n_trials == 40


def test_a_passwords_special_characters_do_no_harm(mysql_server: MysqlServer, url: sa.URL) -> None:
    assert any(c in mysql_server.admin_password for c in "%{}/@")
    run(spec_for(trials=2), url.render_as_string(hide_password=False))
    assert len(finished(url)) == 2


def test_an_endpoint_travels_to_processes(url: sa.URL) -> None:
    import pickle

    endpoint = Endpoint("127.0.0.1", 1, b"secret")
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint
