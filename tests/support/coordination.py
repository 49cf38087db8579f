"""Databases and workers for the tests of a run that the driver coordinates."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Self

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from init.local.mysql import MysqlServer
from optuna_spark.driver.coordinator import Endpoint, LoadedRun, ServingRun
from optuna_spark.driver.progress import Snapshot
from optuna_spark.errors import TuningError
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_tables import LETTERS
from optuna_spark.storage.trial_marks import run_id_of
from optuna_spark.wire.messages import Outcome
from optuna_spark.wire.sealing import WireError
from optuna_spark.worker.driver_source import CoordinatorClient
from optuna_spark.worker.worker import TrialSource, run_trial
from tests.support.waiting import join

XY = {"x": ParamSpec("float", low=-10, high=10), "y": ParamSpec("int", low=-5, high=5)}
NAMES = itertools.count()


def admin_url(server: MysqlServer, database: str = "") -> sa.URL:
    return sa.URL.create("mysql+pymysql", server.admin_user, server.admin_password, server.host, server.port, database)


def new_database(server: MysqlServer) -> sa.URL:
    """An empty database on a running server."""
    name = f"coordination_{os.getpid()}_{next(NAMES)}"
    engine = sa.create_engine(admin_url(server))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return admin_url(server, name)


def binary_database(server: MysqlServer) -> sa.URL:
    """An empty database as `provision_database` makes it."""
    url = new_database(server)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} {LETTERS}")
    engine.dispose()
    return url


def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """An empty database of the kind that a fixture's parameter names: sqlite or mysql."""
    if request.param == "mysql":
        return new_database(request.getfixturevalue("mysql_server"))
    return sa.make_url(f"sqlite:///{tmp_path}/study.sqlite3")


class Coordinator:
    """A driver in this process for the length of a block: loaded when it is opened, serving when it is started."""

    def __init__(self, spec: TuningSpec, url: Any) -> None:
        self._spec, self._url = spec, url
        self._loaded: LoadedRun | None = None
        self._run: ServingRun | None = None

    def open(self) -> LoadedRun:
        self._loaded = self._loaded or LoadedRun(self._spec, self._url)
        return self._loaded

    def start(self, host: str = "127.0.0.1") -> Endpoint:
        self._run = self.open().start(host)
        return self._run.endpoint

    @property
    def run(self) -> ServingRun:
        assert self._run is not None
        return self._run

    def snapshot(self) -> Snapshot:
        return self.run.snapshot()

    def stop_reason(self) -> str | None:
        return self.run.stop_reason()

    def raise_if_failed(self) -> None:
        self.run.raise_if_failed()

    def wait_finished(self, timeout_s: float | None = None) -> bool:
        return self.run.wait_finished(timeout_s)

    def stop(self, reason: str) -> None:
        self.run.stop(reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._run is not None:
            self._run.close()
        elif self._loaded is not None:
            self._loaded.close()


def spec_for(**changes: Any) -> TuningSpec:
    defaults: dict[str, Any] = {
        "study_name": "study",
        "search_space": XY,
        "trials": 10,
        "run_id": "one",
        "seed": 1,
        "coordination": "driver",
    }
    return TuningSpec(**{**defaults, **changes})


def bowl(trial: Any) -> float:
    x, y = trial.suggest_float("x", -10, 10), trial.suggest_int("y", -5, 5)
    return float((x - 2) ** 2 + y**2)


def slow(seconds: float) -> Callable[[Any], float]:
    """An objective that takes its time."""

    def objective(trial: Any) -> float:
        time.sleep(seconds)
        return bowl(trial)

    return objective


def hold_from(first: int, objective: Callable[[Any], float]) -> Callable[[Any], float]:
    """The objective; trials from number `first` on wait until the process that started this one is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def held(trial: Any) -> float:
        while trial.number >= first and parent.is_alive():
            time.sleep(0.05)
        return objective(trial)

    return held


def allow(log: Path, before: int) -> None:
    """Let the workers of `log` end trials with numbers below `before`, and begin one each beyond it."""
    new = log.with_suffix(".new")
    new.write_text(str(before))
    new.replace(_allowed(log))


def when_allowed(log: Path, objective: Callable[[Any], float]) -> Callable[[Any], float]:
    """The objective, once `allow` lets the trial's number through; at once where nothing was said."""

    def allowed(trial: Any) -> float:
        while _allowed(log).exists() and trial.number >= int(_allowed(log).read_text()):
            time.sleep(0.02)
        return objective(trial)

    return allowed


def _allowed(log: Path) -> Path:
    return log.with_suffix(".allowed")


def work(endpoint: Endpoint, objective: Callable[[Any], Any], n_values: int = 1, name: str = "test:1") -> int:
    """Be a worker until the run is over; returns how many trials it ran."""
    client = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, name)
    try:
        done = 0
        while (trial := client.ask()) is not None:
            client.tell(trial, run_trial(objective, trial, n_values))
            with contextlib.suppress(WireError):  # which the next call meets again, and gets over
                client.wait_durable()  # so that tests know what the database holds
            done += 1
        return done
    finally:
        client.close()


def work_in_threads(endpoint: Endpoint, objective: Callable[[Any], Any], workers: int) -> list[int]:
    """Several workers at once, in this process."""
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: counts.append(work(endpoint, objective, name=f"test:{n}")))
        for n in range(workers)
    ]
    for thread in threads:
        thread.start()
    join(*threads)
    return counts


def run_one(source: TrialSource, objective: Callable[[Any], Any], n_values: int = 1) -> Outcome:
    """Run one trial of either coordination; raises what its objective raises."""
    trial = source.ask()
    assert trial is not None
    raised: list[BaseException] = []

    def noted(trial: Any) -> Any:
        try:
            return objective(trial)
        except optuna.TrialPruned:
            raise
        except BaseException as error:
            raised.append(error)
            raise

    outcome = run_trial(noted, trial, n_values)
    source.tell(trial, outcome)
    if raised:
        raise raised[0]
    return outcome


def run(spec: TuningSpec, url: Any, objective: Callable[[Any], Any] = bowl, workers: int = 1) -> Coordinator:
    """A whole run with workers in this process; returns the coordinator after its end."""
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        if workers == 1:
            work(endpoint, objective, len(spec.directions))
        else:
            work_in_threads(endpoint, objective, workers)
        coordinator.raise_if_failed()
    return coordinator


def run_into_failure(spec: TuningSpec, url: Any, objective: Callable[[Any], Any], within_s: float) -> None:
    """A run that ends early, whatever its worker meets then; raises why it failed."""
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        with contextlib.suppress(TuningError):
            work(endpoint, objective)
        assert coordinator.wait_finished(within_s)
        coordinator.raise_if_failed()


def start_processes(
    endpoint: Endpoint, workers: int, log: Path, seconds: float = 0.02, held: int | None = None
) -> list[SpawnProcess]:
    """Workers as real processes; each notes in `log` what the driver has confirmed.

    Trials from number `held` on do not end while this process lives.
    """
    context = multiprocessing.get_context("spawn")
    arguments = [(endpoint, log, seconds, held, number) for number in range(workers)]
    processes = [context.Process(target=work_and_note, args=a) for a in arguments]
    for process in processes:
        process.start()
    return processes


def work_and_note(endpoint: Endpoint, log: Path, seconds: float, held: int | None, number: int) -> None:
    """Be a worker that appends number and value of each trial to a file once it knows that it is durable."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    client = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, f"{number}:{os.getpid()}")
    objective = when_allowed(log, slow(seconds)) if held is None else hold_from(held, slow(seconds))
    told = ""
    while (trial := client.ask()) is not None:
        outcome = run_trial(objective, trial, 1)
        client.tell(trial, outcome)
        note(log, told)  # known before the next one was told
        told = f"{trial.number} {(outcome.values or (0.0,))[0]!r}\n"
    client.wait_durable()
    note(log, told)
    client.close()


def note(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(line)


def confirmed(log: Path) -> dict[int, float]:
    """What the workers were told is durable."""
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len({number for number, _ in lines}) == len(lines)
    return {int(number): float(value) for number, value in lines}


def check(url: Any, trials: int, log: Path) -> list[FrozenTrial]:
    """Exactly the budget, numbered without gaps, nothing confirmed is lost, nothing is there twice."""
    everything = stored(url)
    assert [t.number for t in everything] == list(range(len(everything)))
    done = {t.number: t.value for t in everything if t.state == TrialState.COMPLETE}
    assert len(done) == trials
    assert confirmed(log).items() <= done.items()
    assert all(t.state.is_finished() for t in everything)
    assert all(t.value == bowl(optuna.trial.FixedTrial(t.params)) for t in everything if t.number in done)
    return everything


def stored(url: Any, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
    """The study's trials, read by Optuna itself."""
    text = sa.make_url(url).render_as_string(hide_password=False)
    storage = optuna.storages.RDBStorage(text.replace("{", "{{").replace("}", "}}"))
    try:
        return optuna.load_study(study_name="study", storage=storage).get_trials(states=states)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def finished(url: Any, run_id: str = "one") -> list[FrozenTrial]:
    """Complete and pruned trials of a run."""
    done = stored(url, (TrialState.COMPLETE, TrialState.PRUNED))
    return [t for t in done if run_id_of(t) == run_id]
