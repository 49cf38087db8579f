"""A run is told to finish, from a shell and by name, on a real MySQL server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage

from init.local.mysql import MysqlServer
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.run_marks import ENDED_EARLY, FINISH, mark, with_mark
from tests.support.airflow import migrated_home
from tests.support.connections import ADMIN, TUNING, admin_fields, set_connection, tuning_fields
from tests.support.studies import study_reader
from tuning_pipeline.commands.__main__ import main
from tuning_pipeline.database.finish_marks import ended_early, finish_requested_by, request_finish
from tuning_pipeline.database.prepare_study import prepare_study
from tuning_pipeline.database.provision import provision
from tuning_pipeline.exports.export_run import export_partial, export_run
from tuning_pipeline.failures import TaskError
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.leases import Leases
from tuning_pipeline.runs.study_run import StudyRun

RUN = RunIdentity("tune_s", "manual__2026-11-27T11:13:13.2+00:00", "2026-11-27T11:13:13.247611+00:00")


@pytest.fixture
def url(mysql_server: MysqlServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sa.URL:
    """The database of a study file whose study is this test's own."""
    migrated_home()
    set_connection(monkeypatch, ADMIN, **admin_fields(mysql_server))
    set_connection(
        monkeypatch, TUNING, **tuning_fields(mysql_server, schema="optuna_finish", login="finish", password="finish-pw")
    )
    study = study_reader(tmp_path)(f"objective: quadratic\nstudy: {tmp_path.name}\n")
    provision(study.settings)
    return sa.URL.create("mysql+pymysql", "finish", "finish-pw", mysql_server.host, mysql_server.port, "optuna_finish")


@pytest.fixture
def storage(url: sa.URL) -> Iterator[RDBStorage]:
    with opened_storage(url) as found:
        yield found


def finish(folder: Path) -> int:
    return main(["finish", folder.name, "--folder", str(folder / "dags" / "studies")])


def begin(url: sa.URL, name: str, run: RunIdentity = RUN) -> None:
    prepare_study(TuningSpec(name, run_id=run.key), url, "resume")


def test_the_run_that_holds_the_study_is_told_to_finish_and_by_whom(
    url: sa.URL, storage: RDBStorage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(url, tmp_path.name)
    Leases(storage.engine).take(tmp_path.name, RUN, lambda _: False)
    assert finish(tmp_path) == 0
    assert (
        f"run {RUN} of study {tmp_path.name} was told to finish: its running trials have 60 s"
        in capsys.readouterr().out
    )
    for run in (RUN.key, RUN.run_id):
        assert "(command line)" in str(finish_requested_by(tmp_path.name, run, storage))
    assert ended_early(tmp_path.name, RUN.key, storage) is None


def test_where_no_run_works_on_the_study_nothing_is_asked(
    url: sa.URL, storage: RDBStorage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(url, tmp_path.name)
    assert finish(tmp_path) == 1
    assert f"no run works on study '{tmp_path.name}' now" in capsys.readouterr().err
    assert finish_requested_by(tmp_path.name, RUN.key, storage) is None


def test_a_run_that_has_not_begun_or_a_study_that_is_gone_is_one_sentence(
    url: sa.URL, storage: RDBStorage, tmp_path: Path
) -> None:
    begin(url, tmp_path.name)
    with pytest.raises(TaskError, match="run other has not begun to work on study"):
        request_finish(tmp_path.name, "other", "alice", storage)
    with pytest.raises(TaskError, match="study 'nowhere' is gone"):
        request_finish("nowhere", RUN.key, "alice", storage)
    with pytest.raises(TaskError, match="study 'nowhere' is gone"):
        ended_early("nowhere", RUN.key, storage)


def test_the_newest_run_of_an_id_is_asked_and_its_end_is_told_by_that_id(
    url: sa.URL, storage: RDBStorage, tmp_path: Path
) -> None:
    name = tmp_path.name
    later = RunIdentity(RUN.dag_id, RUN.run_id, "2026-11-28T00:00:00.000000+00:00")
    begin(url, name)
    begin(url, name, later)
    request_finish(name, RUN.run_id, "alice", storage)
    study = storage.get_study_id_from_name(name)
    assert mark(storage.get_study_system_attrs(study)[FINISH], later.key) == "alice"
    storage.set_study_system_attr(study, ENDED_EARLY, with_mark(None, later.key, "finished early by alice"))
    assert ended_early(name, RUN.run_id, storage) == "finished early by alice"
    storage.set_study_system_attr(study, ENDED_EARLY, with_mark(None, later.key, "no route to mysql://ann:hush@db/x"))
    assert ended_early(name, RUN.run_id, storage) == "no route to mysql://***@db/x"
    assert ended_early(name, RUN.key, storage) is None


def test_a_run_that_begins_once_more_forgets_an_old_request(url: sa.URL, storage: RDBStorage, tmp_path: Path) -> None:
    begin(url, tmp_path.name)
    request_finish(tmp_path.name, RUN.key, "alice", storage)
    begin(url, tmp_path.name)
    assert finish_requested_by(tmp_path.name, RUN.key, storage) is None


def test_what_a_failed_run_had_finished_is_exported_as_partial_and_latest_stays(
    url: sa.URL, storage: RDBStorage, tmp_path: Path
) -> None:
    begin(url, tmp_path.name)
    study_file = study_reader(tmp_path)(f"objective: quadratic\nstudy: {tmp_path.name}\nexports: {tmp_path}/exports\n")
    run = StudyRun(study_file, RUN, "resume", asked_for=True)
    assert export_partial(run, url, "10 trials failed in a row") is None
    study = optuna.load_study(study_name=tmp_path.name, storage=storage)
    trial = study.ask({"x": FloatDistribution(0, 1)})
    trial.set_user_attr("run_id", RUN.key)
    study.tell(trial, 0.5)
    folder = Path(str(export_partial(run, url, "10 trials failed in a row: mysql://ann:hush@db/x")))
    best = json.loads((folder / "best_params.json").read_text())
    assert (best["partial"], best["ended_early"], best["value"]) == (
        True, "10 trials failed in a row: mysql://***@db/x", 0.5
    )  # fmt: skip
    assert "Partial results: this run failed" in (folder / "report.html").read_text()
    assert not (folder.parent / "latest").exists()
    # A run that was told to finish is no failure: its export is a whole one, and says who ended it.
    storage.set_study_system_attr(
        storage.get_study_id_from_name(tmp_path.name), ENDED_EARLY, with_mark(None, RUN.key, "finished early by alice")
    )
    exported = export_run(run, url, "")
    assert (exported.best["partial"], exported.best["ended_early"]) == (False, "finished early by alice")
    assert "finished early by alice" in (folder / "report.html").read_text()
    assert (folder.parent / "latest").exists()
