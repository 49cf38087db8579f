"""The tab of a run while it goes on and after it failed, its button, and the pages over every database."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from init.local.ports import free_ports
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.storage.run_marks import ENDED_EARLY, with_mark
from tests.support.airflow import QUICK_STUDY
from tests.support.connections import set_connection
from tests.support.pages_server import HTML, Server, pages_server, parse
from tuning_pipeline.database.finish_marks import finish_requested_by
from tuning_pipeline.database.prepare_study import prepare_study
from tuning_pipeline.database.study_runs import settings_digest
from tuning_pipeline.failures import CARD
from tuning_pipeline.pages.pages import databases
from tuning_pipeline.pages.tuning_run import study_place
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.study_file.study_file import read_study

MADE = "2026-11-27T11:13:13.247611+00:00"
NOW = datetime(2026, 11, 27, 12)
TRACEBACK = (
    'Traceback (most recent call last):\n  File "/x/site-packages/optuna/study.py", line 90, in run_trial\n'
    '  File "/tmp/spark-1/my_objective.py", line 12, in tune\n    return fit(x)\nValueError: depth {} is <too> deep'
)
ELSEWHERE = (
    "objective: quadratic\ntarget: databricks\nstudy: far\n"
    "databricks: {files: /Volumes/a/b/c, database: driver, cluster: {node_type: x}}\n"
)
# Their own in each session: the tests' Airflow keeps its runs.
SECOND, FAR = f"second{uuid.uuid4().hex[:8]}", f"far{uuid.uuid4().hex[:8]}"
POOL = f"tab{uuid.uuid4().hex[:8]}"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    second = f"{QUICK_STUDY}study: second\nconnections: {{database: second_db}}\nretune: {{rule: drift}}\n"
    path = tmp_path_factory.mktemp("tab")
    with pytest.MonkeyPatch.context() as patch:
        set_connection(patch, "second_db", conn_type="sqlite", host=str(path / "second.sqlite3"))
        set_connection(patch, "stranger_db", conn_type="sqlite", host=str(path / "stranger.sqlite3"))
        set_connection(patch, "tuning_databricks", conn_type="databricks", host="https://adb-1.example.net")
        with pages_server(path, **{SECOND: second, FAR: ELSEWHERE}) as found:
            yield found


@pytest.fixture
def storage(server: Server) -> Iterator[RDBStorage]:
    found = create_storage(sa.URL.create("sqlite", database=str(server.storage)))
    yield found
    close_storage(found)


def begun(server: Server, storage: RDBStorage, run_id: str, trials: int = 40) -> optuna.Study:
    """A run whose study is prepared and whose tune task is at work."""
    assert server.trigger(server.dag_id, run_id, trials=trials).status_code == 200
    study = read_study(server.folder.path / "studies" / f"{server.name}.yaml").changed({"trials": trials})
    key = key_of(server, run_id)
    prepare_study(study.to_spec(key), storage.engine.url, "resume", settings_digest(study.document))
    server.leave(run_id, "provision_database", "run_made", MADE)
    server.leave(run_id, "prepare_study", "settings", study.document)
    server.is_now(run_id, "running", provision_database="success", prepare_study="success", tune="running")
    return optuna.load_study(study_name=server.name, storage=storage)


def key_of(server: Server, run_id: str) -> str:
    return RunIdentity(server.dag_id, run_id, MADE).key


def add(study: optuna.Study, key: str, *values: float | None) -> None:
    """Trials of a run, one every two seconds; one without a value failed."""
    for value in values:
        number = len(study.trials)
        attrs = {"run_id": key} | ({} if value is not None else {"error": TRACEBACK.format(number)})
        state = TrialState.COMPLETE if value is not None else TrialState.FAIL
        trial = create_trial(state=state, value=value, user_attrs=attrs)
        trial.datetime_start = NOW + timedelta(seconds=2 * number)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=1)
        study.add_trial(trial)


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL))


def test_a_run_that_tunes_shows_where_it_stands(server: Server, storage: RDBStorage) -> None:
    study = begun(server, storage, "live")
    key = key_of(server, "live")
    add(study, "an earlier run", 5.0, 4.0)
    add(study, key, 7.0, None, 3.0, None, 6.0)
    reply = server.get(server.tab("live"))
    assert reply.status_code == 200
    said = text(reply.text)
    assert "The run is running" in said
    assert "3 best value, trial 4" in said
    assert "3 of 40 trials of this run" in said
    assert "This run improved the best value from 4 to 3." in said
    # Three trials in eight seconds, and 37 to go.
    assert "15 trials/min lately" in said
    assert "about 2 min 28 s left" in said
    assert "complete 3 5" in said
    assert "fail 2 2" in said
    assert "Why trials failed" in said
    assert "2 ValueError: depth 5 is &lt;too&gt; deep my_objective.py, line 12 5" in said
    assert "tune running" in said
    assert '<polyline class="best"' in reply.text
    assert '<meta http-equiv="refresh"' in reply.text
    assert "<script" not in reply.text
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_a_run_that_improves_nothing_says_so(server: Server, storage: RDBStorage) -> None:
    study = begun(server, storage, "worse")
    add(study, "an earlier run", 0.5)
    add(study, key_of(server, "worse"), 9.0)
    assert "This run has not improved the best value: 0.5" in text(server.get(server.tab("worse")).text)


def test_a_failed_run_shows_its_card(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "failed")
    server.leave("failed", "tune", CARD, f"┌ tune failed\n│ What   It broke: {SCRIPT}\n└")
    server.is_now("failed", "failed", tune="failed")
    reply = server.get(server.tab("failed"))
    assert "The run failed" in text(reply.text)
    assert "│ What   It broke: &lt;script&gt;" in reply.text
    assert SCRIPT not in reply.text
    assert "refresh" not in reply.text


def test_the_card_of_a_run_that_failed_is_beside_the_report_of_what_finished(
    server: Server, storage: RDBStorage
) -> None:
    begun(server, storage, "partial")
    server.is_now("partial", "failed", tune="failed")
    folder = server.folder.path.parent / "exports" / server.name / "partial"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("what finished")
    page = server.get(server.tab("partial")).text
    assert "The run failed" in text(page)
    address = re.search(r'href="([^"]*show=report)"', page)
    assert address is not None
    assert server.get(address[1]).text == "what finished"


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements that Airflow's database gets while the block runs."""
    from airflow.settings import engine

    found: list[str] = []

    def see(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    sa.event.listen(engine, "before_cursor_execute", see)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", see)


def test_a_look_at_the_tab_is_cheap(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "cheap")
    server.leave("cheap", "tune", CARD, "┌ tune failed\n└")
    server.is_now("cheap", "failed", tune="failed")
    # A folder in place of the report: whoever reads it fails.
    (server.folder.path.parent / "exports" / server.name / "cheap" / "report.html").mkdir(parents=True)
    assert "show=report" in server.get(server.tab("cheap")).text
    with statements() as seen:
        assert "tune failed" in server.get(server.tab("cheap")).text
    assert sum("FROM xcom" in statement for statement in seen) == 1
    assert sum("FROM serialized_dag" in statement for statement in seen) == 1, "its hash alone"
    assert not any("serialized_dag.data" in statement for statement in seen)


def test_a_changed_study_file_shows_at_the_next_look(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    place = study_place(server.dag_id)
    assert place is not None
    file = server.folder.path / "studies" / f"{server.name}.yaml"
    content = file.read_text()
    file.write_text(content.replace("trials: 4", "trials: 5"))
    try:
        parse(server.folder, {server.dag_id})
        assert study_place(server.dag_id) == replace(place, trials=5)
    finally:
        file.write_text(content)
        parse(server.folder, {server.dag_id})
    assert study_place(server.dag_id) == place


def test_a_run_that_does_not_tune_says_why_in_one_line(server: Server) -> None:
    server.trigger(f"tune_{SECOND}", "skipped")
    server.leave("skipped", "decide_retune", "skipped_because", "the data has not changed", f"tune_{SECOND}")
    server.is_now("skipped", "success", f"tune_{SECOND}")
    said = text(server.get(server.tab("skipped", f"tune_{SECOND}")).text)
    assert "Nothing was tuned" in said
    assert "the data has not changed" in said


def test_a_study_on_a_cluster_shows_the_tasks_state_and_the_workspaces_page(server: Server) -> None:
    assert server.trigger(f"tune_{FAR}", "far").status_code == 200
    server.leave("far", "tune", "run_page_url", "https://adb-1.example.net/?o=1#job/2/run/3", f"tune_{FAR}")
    server.is_now("far", "running", f"tune_{FAR}", tune="deferred")
    page = server.get(server.tab("far", f"tune_{FAR}")).text
    assert "task tune is deferred" in text(page)
    assert 'href="https://adb-1.example.net/?o=1#job/2/run/3"' in page


@pytest.mark.attack("the pages", "an XCom with an address of another host for the tab's link")
@pytest.mark.parametrize(
    "forged",
    ["https://evil.example.org/login", "javascript:alert(1)", "https://adb-1.example.net@evil.example.org/", "//["],
)
def test_a_forged_workspace_page_is_no_link(server: Server, forged: str) -> None:
    run_id = f"forged_{len(forged)}"
    server.trigger(f"tune_{FAR}", run_id)
    server.leave(run_id, "tune", "run_page_url", forged, f"tune_{FAR}")
    server.is_now(run_id, "running", f"tune_{FAR}", tune="running")
    page = server.get(server.tab(run_id, f"tune_{FAR}")).text
    assert "task tune is running" in text(page)
    assert forged not in page


@pytest.mark.attack("the pages", "an XCom rewritten to another run's moment, settings or study")
def test_rewritten_xcoms_show_no_other_run(server: Server, storage: RDBStorage) -> None:
    study = begun(server, storage, "honest", trials=40)
    add(study, key_of(server, "honest"), 2.0)
    assert server.trigger(server.dag_id, "liar").status_code == 200
    server.leave("liar", "provision_database", "run_made", MADE)  # the other run's
    server.leave("liar", "prepare_study", "settings", {"study": "second", "trials": 10**9})
    server.is_now("liar", "running", tune="running")
    said = text(server.get(server.tab("liar")).text)
    assert "0 of 4 trials of this run" in said


# --- Finish now -----------------------------------------------------------------------------------------------------


def finish_path(server: Server, run_id: str) -> str:
    return server.tab(run_id).replace("/report/", "/finish/")


def test_who_may_edit_the_run_finishes_it_from_the_tab(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "finish")
    page = server.get(server.tab("finish"), "user").text
    action = re.search(r'<form method="post" action="([^"]+)"', page)
    assert action is not None
    reply = server.send("POST", action[1], None, "user", **{"Sec-Fetch-Site": "same-origin"})
    assert (reply.status_code, reply.headers["Location"]) == (303, server.tab("finish"))
    key = key_of(server, "finish")
    assert finish_requested_by(server.name, key, storage) == "uma"
    page = server.get(server.tab("finish"), "user").text
    assert "uma asked the run to finish" in text(page)
    assert "<form" not in page


@pytest.mark.attack("the pages", "Finish now by a user who may only look")
def test_a_viewer_has_no_button_and_finishes_nothing(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "looked_at")
    assert "<form" not in server.get(server.tab("looked_at"), "viewer").text
    reply = server.send("POST", finish_path(server, "looked_at"), None, "viewer", **{"Sec-Fetch-Site": "same-origin"})
    assert reply.status_code == 403
    assert finish_requested_by(server.name, key_of(server, "looked_at"), storage) is None


FROM_ELSEWHERE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "null"},  # from a report, which is in a sandbox
    {"Origin": "https://evil.example.org"},
    {"Origin": "null"},
    {"Origin": "http://testserver.evil.example.org"},
]


@pytest.mark.attack("the pages", "Finish now sent by another site's page with the reader's login")
@pytest.mark.parametrize("headers", FROM_ELSEWHERE)
def test_another_sites_page_finishes_nothing(server: Server, storage: RDBStorage, headers: dict[str, str]) -> None:
    run_id = f"attacked_{FROM_ELSEWHERE.index(headers)}"
    begun(server, storage, run_id)
    server.client.cookies.set("_token", server.tokens["user"])
    try:
        reply = server.client.post(finish_path(server, run_id), headers=headers, follow_redirects=False)
        looked = server.client.get(finish_path(server, run_id), follow_redirects=False)
    finally:
        server.client.cookies.clear()
    assert (reply.status_code, looked.status_code) == (403, 405)
    assert finish_requested_by(server.name, key_of(server, run_id), storage) is None


def test_a_run_that_does_not_tune_now_cannot_be_finished(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "over")
    for state, tune in (("running", "up_for_retry"), ("failed", "failed"), ("success", "success")):
        server.is_now("over", state, tune=tune)
        reply = server.send("POST", finish_path(server, "over"), None, "user", Accept=HTML)
        assert reply.status_code == 409
        assert "<h1>The run does not tune now</h1>" in reply.text
        assert ("It has ended." in reply.text) == (state != "running")
    # A mark would end a later try of the run at once.
    assert finish_requested_by(server.name, key_of(server, "over"), storage) is None


def test_a_run_that_the_study_does_not_know_cannot_be_finished(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "begun")
    server.trigger(server.dag_id, "not_begun")
    server.is_now("not_begun", "running", tune="running")
    reply = server.send("POST", finish_path(server, "not_begun"), None, "user", Accept=HTML)
    assert reply.status_code == 503
    assert "<h1>The run was not asked to finish</h1>" in reply.text
    assert "has not begun to work on study" in reply.text
    assert server.send("POST", finish_path(server, "none"), None, "user").status_code == 404


def test_a_run_that_tunes_once_more_has_not_ended_early(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "again")
    marks = with_mark(None, key_of(server, "again"), "it ran out of time")
    storage.set_study_system_attr(storage.get_study_id_from_name(server.name), ENDED_EARLY, marks)
    assert "ended early" not in text(server.get(server.tab("again")).text)
    server.is_now("again", "failed", tune="failed")
    assert "The run ended early: it ran out of time." in text(server.get(server.tab("again")).text)


# --- the way in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/tuning/studies", "/tuning/optuna/dashboard", "/tuning/study/x?database=y", "tab"])
def test_somebody_without_a_login_is_led_to_it_and_back(server: Server, path: str) -> None:
    asked = server.tab("any") if path == "tab" else path
    reply = server.get(asked, "", Accept=HTML)
    assert reply.status_code == 401
    found = re.search(r'href="([^"]+)"', reply.text)
    assert found is not None
    led = server.get(found[1].replace("&amp;", "&"), "")
    assert led.status_code in (302, 307), "Airflow takes the address to come back to"
    assert "/auth/login?next=" in led.headers["Location"]
    assert server.get(asked, "").json() == {"detail": "Not authenticated"}, "a program gets no page"


def test_every_connection_that_study_files_name_has_its_dashboard(server: Server) -> None:
    second = create_storage(sa.URL.create("sqlite", database=str(server.folder.path.parent / "second.sqlite3")))
    optuna.create_study(study_name="second", storage=second)
    close_storage(second)
    page = server.get("/tuning/studies").text
    assert "second_db" in page
    assert "tuning_db" in page
    reply = server.get("/tuning/databases/second_db/api/studies")
    assert [study["study_name"] for study in reply.json()["study_summaries"]] == ["second"]
    led = server.get("/tuning/study/second?database=second_db")
    assert led.headers["Location"].startswith("/tuning/databases/second_db/dashboard/studies/")
    assert server.get("/tuning/study/second").headers["Location"] == led.headers["Location"]
    assert 'src="/tuning/databases/second_db/static/bundle.js"' in server.get(led.headers["Location"]).text


@pytest.mark.attack("the pages", "a connection that no study file names")
@pytest.mark.parametrize("conn_id", ["stranger_db", "tuning_db_admin", "..%2ftuning_db", "tuning_databricks"])
def test_no_other_connection_is_opened(server: Server, conn_id: str) -> None:
    assert server.get(f"/tuning/databases/{conn_id}/api/studies").status_code == 404
    assert not (server.folder.path.parent / "stranger.sqlite3").exists()


def test_a_database_that_is_down_is_a_page_that_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    fields = {"host": "127.0.0.1", "port": port, "login": "ann", "password": "hunter2hunter2", "schema": "optuna"}
    set_connection(monkeypatch, "second_db", conn_type="mysql", **fields)
    databases.cache_clear()
    sentence = f"no MySQL server answers at 127.0.0.1:{port}"
    for path in ("/tuning/databases/second_db/dashboard", "/tuning/study/second?database=second_db"):
        reply = server.get(path, Accept=HTML)
        assert (reply.status_code, sentence in reply.text) == (503, True)
        assert "Correct the database connection" in reply.text
        assert "hunter2" not in reply.text
    reply = server.get("/tuning/databases/second_db/api/studies")
    assert (reply.status_code, sentence in reply.json()["reason"]) == (503, True)
    listed = server.get("/tuning/studies").text
    assert sentence in listed
    assert 'href="/tuning/optuna/dashboard"' in listed, "the other database is there"
    server.trigger(f"tune_{SECOND}", "down")
    server.is_now("down", "running", f"tune_{SECOND}", tune="running")
    page = server.get(server.tab("down", f"tune_{SECOND}"))
    assert (page.status_code, sentence in page.text) == (200, True)
    databases.cache_clear()


def test_a_database_that_dies_behind_the_first_look_is_the_same_page(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "dies.sqlite3"
    set_connection(monkeypatch, "second_db", conn_type="sqlite", host=str(file))
    databases.cache_clear()
    assert server.trigger(f"tune_{SECOND}", "dies").status_code == 200
    server.is_now("dies", "running", f"tune_{SECOND}", tune="running")
    assert server.get("/tuning/databases/second_db/dashboard/studies/1").status_code == 404
    file.write_bytes(b"no database " * 1000)
    finish = server.tab("dies", f"tune_{SECOND}").replace("/report/", "/finish/")
    replies = [
        server.get("/tuning/study/second?database=second_db", Accept=HTML),
        server.get("/tuning/databases/second_db/dashboard/studies/1", Accept=HTML),
        server.send("POST", finish, None, "user", Accept=HTML),
    ]
    for reply in replies:
        assert reply.status_code == 503
        assert "<h1>The studies cannot be read</h1><p>the database does not answer (" in reply.text
        assert "SELECT" not in reply.text
    reply = server.get("/tuning/databases/second_db/dashboard/studies/1")
    assert reply.status_code == 503
    assert reply.json()["reason"].startswith("the database does not answer (")
    reply = server.get("/tuning/databases/second_db/api/studies")  # the dashboard itself only says that it failed
    assert (reply.status_code, "cannot be used: file is not a database" in reply.json()["reason"]) == (503, True)
    listed = server.get("/tuning/studies")
    assert (listed.status_code, "the database does not answer (" in listed.text) == (200, True)
    assert 'href="/tuning/optuna/dashboard"' in listed.text, "the other database is there"
    page = server.get(server.tab("dies", f"tune_{SECOND}"))
    assert (page.status_code, "The study cannot be read: the database does not answer (" in page.text) == (200, True)
    databases.cache_clear()


@contextmanager
def one_slot(server: Server, *run_ids: str) -> Iterator[None]:
    """A pool of one slot, which tasks tune of these runs share."""
    from airflow.models.pool import Pool
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    shared = (TaskInstance.dag_id == server.dag_id, TaskInstance.task_id == "tune", TaskInstance.run_id.in_(run_ids))
    with create_session() as session:
        session.add(Pool(pool=POOL, slots=1, description="", include_deferred=False))
        session.execute(sa.update(TaskInstance).where(*shared).values(pool=POOL))
    try:
        yield
    finally:
        with create_session() as session:
            session.execute(sa.delete(Pool).where(Pool.pool == POOL))


def test_a_task_that_waits_for_its_pool_says_which_run_holds_it(server: Server, storage: RDBStorage) -> None:
    begun(server, storage, "holder")
    begun(server, storage, "waiter")
    server.is_now("waiter", "running", tune="scheduled")
    with one_slot(server, "holder", "waiter"):
        said = text(server.get(server.tab("waiter")).text)
        assert f"Task tune waits for the slot of pool {POOL}, held by run holder of {server.dag_id}." in said
        assert "waits for" not in text(server.get(server.tab("holder")).text)
        server.is_now("holder", "success", tune="success")
        assert "waits for" not in text(server.get(server.tab("waiter")).text)
