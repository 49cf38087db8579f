"""A study copied to a file and back is the same study, in every row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa

from init.local.mysql import MysqlServer
from optuna_spark.errors import StorageError
from optuna_spark.storage.optuna_storage import create_storage
from optuna_spark.storage.study_copy import StudyCopy, copy_database, sqlite_url
from tests.support.waiting import wait_until


@pytest.fixture
def mysql_url(mysql_server: MysqlServer) -> sa.URL:
    server = sa.URL.create(
        "mysql+pymysql", mysql_server.admin_user, mysql_server.admin_password, mysql_server.host, mysql_server.port
    )
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS study_copy"))
        connection.execute(sa.text("CREATE DATABASE study_copy CHARACTER SET utf8mb4"))
    engine.dispose()
    return server.set(database="study_copy")


def fill(url: sa.URL) -> None:
    """A study with something of everything: all states, kinds of parameters, attributes, a budget."""
    study = optuna.create_study(study_name="s", storage=create_storage(url), directions=["minimize", "maximize"])
    study.set_user_attr("who", "Zoë 🚀")

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 1e-8, 1, log=True)
        trial.suggest_int("n", 1, 9)
        trial.suggest_categorical("c", [None, "a", 2.5, True])
        trial.set_user_attr("error", "' \" \\ %")
        if trial.number == 3:
            raise ValueError("wrong")
        return x, float("inf") if trial.number == 2 else 0.1 + 0.2

    study.optimize(objective, n_trials=5, catch=(ValueError,))
    study.enqueue_trial({"x": 0.5})
    study.ask()
    study.ask()
    pruned_storage = create_storage(url)
    pruned = optuna.create_study(study_name="p", storage=pruned_storage)
    trial = pruned.ask()
    for step, value in enumerate((1.5, float("nan"), float("inf"))):
        trial.report(value, step)
    pruned.tell(trial, state=optuna.trial.TrialState.PRUNED)


def content(url: sa.URL) -> dict[str, list[tuple[Any, ...]]]:
    engine, metadata = sa.create_engine(url), sa.MetaData()
    metadata.reflect(engine)
    with engine.connect() as connection:
        return {
            name: [tuple(map(str, row)) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for name, table in metadata.tables.items()
        }


def trials(url: sa.URL, name: str) -> list[str]:
    return [repr(trial) for trial in optuna.load_study(study_name=name, storage=create_storage(url)).trials]


def test_a_study_survives_mysql_to_file_to_mysql(mysql_url: sa.URL, tmp_path: Path) -> None:
    fill(mysql_url)
    before, seen = content(mysql_url), [trials(mysql_url, name) for name in "sp"]
    file = sqlite_url(tmp_path / "study.db")
    copied = copy_database(mysql_url, file)
    assert copied == sum(len(rows) for name, rows in before.items() if name not in ("alembic_version", "version_info"))
    assert [trials(file, name) for name in "sp"] == seen
    optuna.create_study(study_name="gone", storage=create_storage(mysql_url))
    assert copy_database(file, mysql_url) == copied
    assert content(mysql_url) == before


def test_a_restored_study_goes_on(mysql_url: sa.URL, tmp_path: Path) -> None:
    file = sqlite_url(tmp_path / "study.db")
    fill(file)
    copy_database(file, mysql_url)
    study = optuna.load_study(study_name="p", storage=create_storage(mysql_url))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert [trial.number for trial in study.trials] == [0, 1, 2]


def test_without_a_copy_there_is_nothing_to_restore(tmp_path: Path) -> None:
    copy = StudyCopy(tmp_path / "none.db", sqlite_url(tmp_path / "live.db"))
    assert not copy.restore()


def test_the_copy_is_kept_while_the_run_lasts_and_after_it_failed(tmp_path: Path) -> None:
    live = sqlite_url(tmp_path / "live.db")
    storage = create_storage(live)
    study = optuna.create_study(study_name="s", storage=storage)
    copy = StudyCopy(tmp_path / "volume" / "study.db", live)
    kept = sqlite_url(copy.path)

    def run() -> None:
        with copy.kept(every_s=0.05):
            study.optimize(lambda trial: 1.0, n_trials=1)
            wait_until(lambda: copy.path.exists() and len(trials(kept, "s")) == 1)
            study.optimize(lambda trial: 1.0, n_trials=1)
            raise RuntimeError("a worker died")

    with pytest.raises(RuntimeError, match="worker"):
        run()
    assert len(trials(kept, "s")) == 2
    assert sorted(path.name for path in copy.path.parent.iterdir()) == ["study.db"]


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"")
    with pytest.raises(StorageError, match="holds no Optuna tables"):
        copy_database(sqlite_url(tmp_path / "other.db"), sqlite_url(tmp_path / "live.db"))
    (tmp_path / "broken.db").write_bytes(b"x" * 5000)
    with pytest.raises(StorageError, match="cannot be copied: file is not a database"):
        copy_database(sqlite_url(tmp_path / "broken.db"), sqlite_url(tmp_path / "live.db"))


def test_a_copy_of_another_schema_is_refused(tmp_path: Path) -> None:
    old, live = (sqlite_url(tmp_path / name) for name in ("old.db", "live.db"))
    create_storage(old)
    with sa.create_engine(old).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v2.0.0.a'"))
    with pytest.raises(StorageError, match=r"holds Optuna schema v2\.0\.0\.a"):
        copy_database(old, live)
