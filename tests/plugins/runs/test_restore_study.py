"""A study that a reset replaced comes back, on a real MySQL server: by name, and never from under a run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage

from init.local.layout import REPOSITORY
from init.local.mysql import MysqlServer
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_storage import close_storage, create_storage, opened_storage
from tests.support.airflow import migrated_home
from tests.support.cards import unwrapped
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.programs import run_program
from tests.support.studies import study_reader
from tuning_pipeline.commands.study_url import study_url
from tuning_pipeline.database.lease_table import LEASES
from tuning_pipeline.database.prepare_study import check_prepared, prepare_study
from tuning_pipeline.database.provision import provision
from tuning_pipeline.database.replaced_studies import drop_replaced, replaced_studies
from tuning_pipeline.exports.export_run import export_run
from tuning_pipeline.failures import TaskError
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.leases import Leases
from tuning_pipeline.runs.restore_study import restore
from tuning_pipeline.runs.study_lease import DEAD_S, STRANGER_S
from tuning_pipeline.runs.study_run import StudyRun

SPACE = {"x": ParamSpec("float", 0, 1)}
HOLDER = RunIdentity("tune_s", "manual__1", "2026-11-27T11:13:13.247611+00:00")


@pytest.fixture
def file(mysql_server: MysqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file whose study is this test's own, in a database that is ready."""
    migrated_home()
    fields = tuning_fields(mysql_server, schema="optuna_restore", login="restore", password="restore-pw")
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server))
    set_connection(monkeypatch, TUNING, **fields)
    study = study_reader(tmp_path)(f"objective: quadratic\nstudy: {tmp_path.name}\n")
    provision(study.settings)
    return study.path


@pytest.fixture
def storage(file: Path, mysql_server: MysqlServer) -> Iterator[RDBStorage]:
    found = create_storage(url_of(mysql_server))
    yield found
    close_storage(found)


def url_of(server: MysqlServer) -> sa.URL:
    return sa.URL.create("mysql+pymysql", "restore", "restore-pw", server.host, server.port, "optuna_restore")


@pytest.fixture
def url(mysql_server: MysqlServer) -> sa.URL:
    return url_of(mysql_server)


def run(storage: RDBStorage, url: sa.URL, name: str, run_id: str, mode: str, trials: int) -> None:
    prepare_study(TuningSpec(name, search_space=SPACE, run_id=run_id), url, mode)
    study = optuna.load_study(study_name=name, storage=storage)
    for _ in range(trials):
        study.tell(study.ask(distributions(SPACE)), 1.0)


def trials_of(storage: RDBStorage, name: str) -> int:
    return len(optuna.load_study(study_name=name, storage=storage).trials)


def test_the_newest_of_what_resets_replaced_comes_back_and_the_command_undoes_itself(
    file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path
) -> None:
    name = tmp_path.name
    for number, trials in enumerate([1, 2, 3]):
        run(storage, url, name, f"run {number}", "reset", trials)
    first, second = replaced_studies(storage, name)
    lines = restore(file)
    (kept,) = set(replaced_studies(storage, name)) - {first}
    assert lines == [f"study {name} is what was {second}", f"what had its name is kept as {kept}"]
    assert [trials_of(storage, study) for study in (name, first, kept)] == [2, 1, 3]
    restore(file)
    assert trials_of(storage, name) == 3


def test_a_study_is_brought_back_by_its_name(file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path) -> None:
    name = tmp_path.name
    for number, trials in enumerate([1, 2, 3]):
        run(storage, url, name, f"run {number}", "reset", trials)
    oldest = replaced_studies(storage, name)[0]
    restore(file, oldest)
    assert trials_of(storage, name) == 1


def test_a_study_that_is_gone_comes_back(file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path) -> None:
    name = tmp_path.name
    run(storage, url, name, "run 1", "resume", 2)
    run(storage, url, name, "run 2", "reset", 1)
    optuna.delete_study(study_name=name, storage=storage)
    assert len(restore(file)) == 1
    assert (trials_of(storage, name), replaced_studies(storage, name)) == (2, [])


def test_a_restored_study_is_the_one_of_the_runs_that_made_it(
    file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path
) -> None:
    name = tmp_path.name
    run(storage, url, name, "run 1", "resume", 2)
    run(storage, url, name, "run 2", "reset", 1)
    restore(file)
    check_prepared(name, url, "run 1")
    with pytest.raises(TaskError, match="no longer the one that this run prepared"):
        check_prepared(name, url, "run 2")
    run(storage, url, name, "run 3", "resume", 1)
    assert trials_of(storage, name) == 3


def test_a_name_that_nobody_kept_is_refused_with_those_there_are(
    file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path
) -> None:
    name = tmp_path.name
    run(storage, url, name, "run 1", "resume", 2)
    with pytest.raises(TaskError, match=f"no reset has replaced study '{name}', or keep_replaced is 0"):
        restore(file)
    run(storage, url, name, "run 2", "reset", 1)
    wanted = f"{name}.replaced-20000101T000000.000000Z"
    with pytest.raises(TaskError, match=f"no study '{wanted}' is kept") as caught:
        restore(file, wanted)
    assert caught.value.failure.next == f"There is: {replaced_studies(storage, name)[0]}."
    assert trials_of(storage, name) == 1


def test_a_study_in_a_file_of_its_cluster_is_left_alone_and_the_way_out_named(tmp_path: Path) -> None:
    cluster = "databricks: {files: /Volumes/a/b/c, cluster: {node_type: n}}"
    study = study_reader(tmp_path)(f"objective: quadratic\nstudy: s\ntarget: databricks\n{cluster}\n")
    with pytest.raises(TaskError, match="study 's' lives in a file that its cluster works on") as restored:
        restore(study.path)
    assert "fetch /Volumes/a/b/c/studies/s/study.db, delete study s in it" in restored.value.failure.next
    with pytest.raises(TaskError) as asked:
        study_url(study)
    assert asked.value.failure.next.startswith("Fetch /Volumes/a/b/c/studies/s/study.db and open it")


def test_the_way_out_works(tmp_path: Path) -> None:
    with opened_storage(f"sqlite:///{tmp_path}/study.db") as storage:
        prepare_study(TuningSpec("s", search_space=SPACE, run_id="run 1"), url := storage.engine.url, "resume")
        before = optuna.load_study(study_name="s", storage=storage)
        before.tell(before.ask(distributions(SPACE)), 1.0)
        prepare_study(TuningSpec("s", search_space=SPACE, run_id="run 2"), url, "reset")
        (kept,) = replaced_studies(storage, "s")
        optuna.delete_study(study_name="s", storage=storage)
        optuna.copy_study(from_study_name=kept, from_storage=storage, to_storage=storage, to_study_name="s")
        assert trials_of(storage, "s") == 1


@pytest.mark.parametrize(("busy", "limit_s"), [(True, DEAD_S), (False, STRANGER_S)])
def test_a_study_that_a_run_holds_is_left_to_it(
    busy: bool, limit_s: int, file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path
) -> None:
    name = tmp_path.name
    run(storage, url, name, "run 1", "resume", 2)
    run(storage, url, name, "run 2", "reset", 1)
    leases = Leases(storage.engine)
    assert leases.take(name, HOLDER, lambda lease: False) is None
    leases.renew(name, HOLDER, busy=busy)
    with pytest.raises(TaskError, match=f"run {HOLDER} has been working on study '{name}' since 20"):
        restore(file)
    assert trials_of(storage, name) == 1
    with storage.engine.begin() as connection:
        aged = sa.update(LEASES).where(LEASES.c.study == name)
        connection.execute(aged.values(renewed_s=LEASES.c.renewed_s - limit_s - 1))
    restore(file)
    assert trials_of(storage, name) == 2


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_after_the_export_so_many_replaced_studies_are_left_as_the_file_says(
    keep: int, file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path
) -> None:
    name = tmp_path.name
    study = study_reader(tmp_path)(f"objective: quadratic\nstudy: {name}\nkeep_replaced: {keep}\n")
    for number in range(1, 5):
        identity = RunIdentity(study.dag_id, f"run {number}", f"2026-11-27T11:13:1{number}.000000+00:00")
        run(storage, url, name, identity.key, "reset", number)
        assert len(replaced_studies(storage, name)) == min(number - 1, keep + 1)  # until the export all of them
        export_run(StudyRun(study, identity, "reset", True), url, "")
        left = [trials_of(storage, kept) for kept in replaced_studies(storage, name)]
        assert left == list(range(1, number))[len(range(1, number)) - min(keep, number - 1) :]
    assert trials_of(storage, name) == 4


def test_studies_of_like_names_are_left_alone(storage: RDBStorage, url: sa.URL, tmp_path: Path) -> None:
    name = tmp_path.name
    for other in (name, f"{name}.replaced-x", f"{name}-2"):
        run(storage, url, other, "run 1", "resume", 1)
        run(storage, url, other, "run 2", "reset", 1)
    assert len(drop_replaced(storage, name, 0)) == 1
    assert [len(replaced_studies(storage, other)) for other in (f"{name}.replaced-x", f"{name}-2")] == [1, 1]


def test_the_command_says_what_it_did_and_why_not(file: Path, storage: RDBStorage, url: sa.URL, tmp_path: Path) -> None:
    name = tmp_path.name
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(str(REPOSITORY / part) for part in ("jobs", "plugins"))}
    command = [sys.executable, "-m", "tuning_pipeline.commands", "restore", name, "--folder", str(file.parent)]
    refused = run_program(command, env=env, code=1)
    assert f"no reset has replaced study '{name}', or keep_replaced is 0" in unwrapped(refused.stderr)
    run(storage, url, name, "run 1", "resume", 2)
    run(storage, url, name, "run 2", "reset", 1)
    done = run_program(command, env=env)
    assert f"study {name} is what was {name}.replaced-" in done.stdout
    assert json.loads(env["AIRFLOW_CONN_TUNING_DB"])["password"] not in done.stdout + done.stderr
    assert trials_of(storage, name) == 2
