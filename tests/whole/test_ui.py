"""Airflow as its users live in it: the real services, the real pages, a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

import pytest

from init.local import passwords
from init.local.guard import descendants
from init.local.layout import REPOSITORY
from init.local.log_server import LOG_SERVER
from init.local.mysql import find_program
from init.local.processes import Service, birth
from tests.support.browser import Browser, browser
from tests.support.processes import listening_addresses
from tests.support.servers import scratch_folder, spark_environment
from tests.support.site import Site, checkout, end_services, running_site, serve, start
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

SMALL = "spark:\n  executor_memory: 512m\n"
DIABETES = (REPOSITORY / "dags" / "studies" / "diabetes.yaml").read_text()
# Every trial has the same value on every day: the best never drifts, and none is better than another.
STEADY = (
    "objective: quadratic\nretries: 0\ntrials: 4\nseed: 1\ndistribution: rdd\n"
    "search_space: {x: {type: float, low: 3, high: 3}}\n"
    f"retune: {{rule: drift, assets: [table], warm_start: 2, publish: better}}\n{SMALL}"
)
# Looks at the data's files; the objective itself does not read them.
WATCHING = (
    "objective: quadratic\nretries: 0\ntrials: 3\nseed: 1\ndistribution: rdd\ndata: {path: table.csv}\n"
    f"retune: {{rule: new_data, mode: reset, assets: [lake], warm_start: 2}}\n{SMALL}"
)
# Long overdue: its first day is past, and no slot since then has had its run.
MINUTELY = (
    "objective: quadratic\nretries: 0\ntrials: 3\nseed: 1\ndistribution: rdd\n"
    f"schedule: '* * * * *'\nstart_date: 2026-01-01\n{SMALL}"
)
# Minutes of work: long enough to be looked at and finished.
LONG = 2000
SLOW = (
    f"objective: slow:slow\nretries: 0\ntrials: {LONG}\nseed: 1\ndistribution: rdd\n"
    f"search_space: {{x: {{type: float, low: 0, high: 1}}}}\n{SMALL}"
)
SLOW_OBJECTIVE = """
import time


def slow(trial):
    time.sleep(0.5)
    return trial.suggest_float("x", 0, 1)
"""
TRIALS = 4
SERVICES = [LOG_SERVER, "airflow-api-server", "airflow-dag-processor", "airflow-triggerer", "airflow-scheduler"]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Behind a base URL with a path, as a reverse proxy gives it, from a shell whose own proxy answers nothing."""
    if find_program() is None or not spark_environment().exists():
        pytest.skip("needs a MySQL server and the Spark environment: run `make setup`")
    studies = {"diabetes": DIABETES, "steady": STEADY, "watching": WATCHING, "minutely": MINUTELY, "slow": SLOW}
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as shell:
            for name in ("http_proxy", "HTTP_PROXY"):
                shell.setenv(name, "http://127.0.0.1:9")
            found = stack.enter_context(running_site(studies, "/airflow", {"slow": SLOW_OBJECTIVE}))
        found.wait_for_dags(6)
        yield found


@pytest.fixture(scope="module")
def open_browser(site: Site) -> Iterator[Browser]:
    with browser(site.url) as found:
        found.log_in("admin", site.password("admin"))
        yield found


@pytest.fixture
def chromium(open_browser: Browser) -> Iterator[Browser]:
    """The browser, logged in. Between tests it shows nothing, since Airflow's pages go on asking and drawing."""
    yield open_browser
    open_browser.driver.get("about:blank")


@pytest.fixture(scope="module")
def tuned(site: Site) -> str:
    """A run of the diabetes study that ended well."""
    return successful_run(site, "tune_diabetes", {"trials": TRIALS})


@pytest.fixture(scope="module")
def steady(site: Site) -> str:
    """A run of the steady study that ended well."""
    return successful_run(site, "tune_steady", {})


@pytest.fixture(scope="module")
def at_work(site: Site) -> str:
    """A run in the middle of its trials. It holds the pool's only slot until a test finishes it."""
    run_id = site.trigger("tune_slow", {})
    wait_for_links(site, "tune_slow", run_id)
    return run_id


def successful_run(site: Site, dag_id: str, conf: dict[str, Any]) -> str:
    run_id = site.trigger(dag_id, conf)
    site.must_succeed(dag_id, run_id)
    return run_id


@pytest.fixture(scope="module")
def spare_site() -> Iterator[Site]:
    """Airflow's services alone, for tests that end some of them."""
    with scratch_folder() as folder:
        layout = checkout(folder, {"steady": STEADY})
        secrets = passwords.load_or_create(layout.state / "secrets.env")
        try:
            yield serve(layout, {passwords.FERNET: secrets[passwords.FERNET]})
        finally:
            end_services(layout)


@pytest.fixture
def fragile(spare_site: Site) -> Site:
    """The same with all of its services up, whatever another test did to them."""
    spare_site.services.ensure()
    return spare_site


def service(site: Site, name: str) -> Service:
    return Service(name, site.layout.state)


# --- the services ---------------------------------------------------------------------------------------------------


def test_the_services_listen_on_loopback_only(site: Site) -> None:
    for name in SERVICES:
        pids = descendants(service(site, name).pid)
        found = {address for pid in pids for address in listening_addresses(pid)}
        assert found <= {"127.0.0.1"}, name
        assert found or name not in (LOG_SERVER, "airflow-api-server"), f"{name} listens"


def test_nobody_else_can_read_what_they_write(site: Site) -> None:
    ours = [site.layout.airflow_home, site.layout.logs, site.layout.state / "run"]
    files = [path for folder in ours for path in [folder, *folder.rglob("*")] if not path.is_symlink()]
    assert len(files) > 20
    assert [str(path) for path in files if path.stat().st_mode & 0o077] == []


def test_no_password_is_in_a_log(site: Site) -> None:
    secrets = [line.partition("=")[2] for line in (site.layout.state / "secrets.env").read_text().splitlines()]
    secrets += [site.password("admin"), site.password("viewer")]
    logs = [*site.layout.logs.rglob("*.log"), *(site.layout.airflow_home / "logs").rglob("*.log")]
    for log in logs:
        assert not [secret for secret in secrets if secret in log.read_text(errors="replace")], log


def test_starting_again_finds_them_running(site: Site) -> None:
    assert not site.services.ensure()


# --- who may see what -----------------------------------------------------------------------------------------------

PAGES = [
    "/tuning/optuna/dashboard",
    "/tuning/optuna/api/studies",
    "/tuning/optuna/static/bundle.js",
    "/tuning/studies",
    "/tuning/databases/tuning_db/api/studies",
    "/tuning/study/diabetes",
    "/tuning/report/tune_diabetes/any",
]


@pytest.mark.parametrize("path", PAGES)
def test_an_anonymous_request_gets_nothing(site: Site, path: str) -> None:
    assert site.request("GET", path)[0] == 401
    assert site.request("GET", path, token="forged")[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nobody_changes_a_study_through_the_dashboard(site: Site, method: str) -> None:
    path = "/tuning/optuna/api/studies/1"
    assert site.request(method, path, {})[0] == 401
    for user in ("admin", "viewer"):
        status, answer = site.request(method, path, {}, site.token(user))
        assert (status, "read-only" in answer["reason"]) == (405, True)


def test_a_viewer_looks_but_changes_nothing(site: Site) -> None:
    viewer = site.token("viewer")
    assert site.request("GET", "/api/v2/dags/tune_diabetes", token=viewer)[0] == 200
    assert site.request("PATCH", "/api/v2/dags/tune_diabetes", {"is_paused": False}, viewer)[0] == 403
    body: dict[str, object] = {"logical_date": None, "conf": {}}
    assert site.request("POST", "/api/v2/dags/tune_diabetes/dagRuns", body, viewer)[0] == 403
    assert site.request("GET", "/api/v2/connections", token=viewer)[0] == 403


def test_a_run_that_does_not_exist_is_said_so(site: Site) -> None:
    status, page = site.request("GET", "/tuning/report/tune_diabetes/none", token=site.token("viewer"))
    assert status == 404
    assert "No such run" in page


def test_a_study_that_does_not_exist_is_said_so(site: Site) -> None:
    status, page = site.request("GET", "/tuning/study/nothing", token=site.token("admin"), accept="text/html")
    assert status in (404, 503)  # 503 before the first run has made the database
    assert "<h1>" in page


# --- a person at the browser ----------------------------------------------------------------------------------------


def test_a_run_from_the_trigger_form_to_the_report(site: Site, chromium: Browser) -> None:
    known = newest_run(site, "tune_diabetes")
    chromium.open("/dags/tune_diabetes")
    chromium.button("Trigger").click()
    chromium.see("resume: go on with the study")
    trials = chromium.find("input[name='element_trials'], [id$='trials'] input, input[id*='trials']")
    trials.send_keys("\b\b\b\b25")
    chromium.button("Search").click()
    chromium.see("A class of optuna.samplers")
    chromium.picture("trigger-form")
    [button for button in chromium.driver.find_elements("tag name", "button") if button.text == "Trigger"][-1].click()
    run_id = wait_for_another_run(site, "tune_diabetes", known)
    links = wait_for_links(site, "tune_diabetes", run_id)
    assert links["Optuna dashboard"] == f"{site.url}/tuning/study/diabetes?database=tuning_db"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", links["Spark UI"])
    site.must_succeed("tune_diabetes", run_id)
    assert conf_of(site, "tune_diabetes", run_id)["trials"] == 25

    chromium.open(f"/dags/tune_diabetes/runs/{quote(run_id)}")
    chromium.link("Best trials").click()
    with chromium.frame():
        chromium.see("Study diabetes")
        chromium.see("Best parameters")
    chromium.picture("best-trials")

    chromium.open(f"/dags/tune_diabetes/runs/{quote(run_id)}/tasks/tune/details")
    link = chromium.link("Optuna dashboard").get_attribute("href") or ""
    assert link == links["Optuna dashboard"]
    chromium.picture("extra-links")
    chromium.driver.get(link)
    chromium.see("History")
    chromium.see("Hyperparameter Importance")
    assert "/airflow/tuning/optuna/dashboard/studies/" in chromium.driver.current_url
    time.sleep(3)  # the plots draw themselves
    chromium.picture("study")

    chromium.open("/plugin/optuna")
    with chromium.frame():
        chromium.see("diabetes")
    chromium.picture("dashboard")


@pytest.mark.usefixtures("tuned")
def test_a_viewer_sees_the_dashboard_and_a_run_at_work_and_cannot_use_them_to_write(site: Site, at_work: str) -> None:
    with browser(site.url) as viewer:
        viewer.log_in("viewer", site.password("viewer"))
        viewer.open("/plugin/optuna")
        with viewer.frame():
            viewer.see("diabetes")
            assert not set(viewer.text().split()) & {"CREATE", "Create"}
            labels = ("rename study", "delete study")
            icons = [viewer.find(f"[aria-label='{label}']") for label in labels]
            assert not [icon for icon in icons if icon.is_displayed()]
        for path in ("/tuning/optuna/api/studies", "/api/v2/dags/tune_diabetes/dagRuns"):
            status = viewer.driver.execute_async_script(POST, site.url + path)
            assert status in (403, 405), path
        viewer.open(tab_of("tune_slow", at_work))
        with viewer.frame():
            viewer.until(lambda: trials_shown(viewer) > 0, "trials of the run")
            assert "Finish now" not in viewer.text()
        viewer.open("/dags/tune_diabetes")
        viewer.see("export_best_trials")
        viewer.picture("viewer")


def tab_of(dag_id: str, run_id: str) -> str:
    """Path of the tab *Best trials* of a run."""
    return f"/dags/{dag_id}/runs/{quote(run_id)}/plugin/best-trials"


def trials_shown(shown: Browser) -> int:
    """How many trials of the slow run the tab tells as finished."""
    found = re.search(rf"([\d,]+) of {LONG:,}\s+trials of this run", shown.text())
    return int(found[1].replace(",", "")) if found else 0


# Sends what a form would, with the viewer's own session. Arguments: address, what to call with the status.
POST = """
fetch(arguments[0], {method: "POST", headers: {"Content-Type": "application/json"},
                     body: JSON.stringify({study_name: "mine", directions: ["minimize"], logical_date: null})})
    .then(reply => arguments[1](reply.status));
"""


def test_the_log_of_a_running_task_is_served_once(site: Site, at_work: str) -> None:
    def begun() -> list[dict[str, Any]]:
        records = site.log_records("tune_slow", at_work, "tune")
        return records if any("trials, best " in str(record["event"]) for record in records) else []

    records = wait_until(begun, "the first trials in the log", every_s=1)
    assert site.states("tune_slow", at_work)["tune"] == "running"
    told = [str(record["event"]) for record in records]
    assert [line for line in told if "Could not read" in line] == []
    port = service(site, LOG_SERVER).facts()["log_port"]
    assert [line for line in told if line.startswith(f"http://127.0.0.1:{port}/log/dag_id=tune_slow/")]
    lines = [json.dumps(record, sort_keys=True) for record in records if record.get("timestamp")]
    assert len(lines) == len(set(lines))
    assert "Could not read" not in service(site, "airflow-api-server").log.read_text(errors="replace")


def test_the_log_server_answers_airflow_only(site: Site, at_work: str) -> None:
    port = service(site, LOG_SERVER).facts()["log_port"]
    asking = HTTPConnection("127.0.0.1", port, timeout=60)
    asking.request("GET", f"/log/dag_id=tune_slow/run_id={quote(at_work)}/task_id=tune/attempt=1.log")
    assert asking.getresponse().status == 403
    asking.close()


def test_make_ui_after_the_database_died_leaves_a_running_tune_alone(site: Site, at_work: str) -> None:
    before = {name: service(site, name).pid for name in [*SERVICES, "spark-master", "spark-worker"]}
    database = service(site, "mysql")
    pid, port = database.pid, database.facts()["port"]
    known = len(trials_of(site, "slow"))
    os.kill(pid, signal.SIGKILL)
    wait_until_gone([pid])
    assert start(site.layout, "/airflow").url == site.url
    assert database.facts()["port"] == port
    assert {name: service(site, name).pid for name in before} == before
    wait_until(lambda: len(trials_of(site, "slow")) > known + 4, "further trials", every_s=1)
    assert site.states("tune_slow", at_work)["tune"] == "running"


def test_a_run_is_watched_and_finished_in_its_tab(site: Site, at_work: str, chromium: Browser) -> None:
    chromium.open(tab_of("tune_slow", at_work))
    with chromium.frame():
        chromium.see("The run is running")
        first = chromium.until(lambda: trials_shown(chromium), "trials of the run")
        chromium.until(lambda: trials_shown(chromium) > first, "more of them, without a click")
        chromium.see("These are the study's first results.")
        chromium.picture("live")
        chromium.until(lambda: has_been_told_to_finish(chromium), "that the run is to finish")
    site.must_succeed("tune_slow", at_work)
    assert len(trials_of(site, "slow")) < LONG
    chromium.open(tab_of("tune_slow", at_work))
    with chromium.frame():
        chromium.see("This run ended before its trials were spent: finished early by admin.")


def has_been_told_to_finish(shown: Browser) -> bool:
    """Whether the tab says so; else press its button. The page loads itself anew, perhaps just before a click."""
    if re.search("admin asked the run to finish|finished early by admin", shown.text()):
        return True
    shown.driver.find_element("xpath", "//button[.='Finish now']").click()
    return False


def newest_run(site: Site, dag_id: str) -> str:
    """Its id; empty when there is none yet."""
    runs = site.api("GET", f"/dags/{dag_id}/dagRuns?order_by=-run_after")["dag_runs"]
    return str(runs[0]["dag_run_id"]) if runs else ""


def conf_of(site: Site, dag_id: str, run_id: str) -> dict[str, object]:
    return dict(site.api("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}")["conf"])


def wait_for_links(site: Site, dag_id: str, run_id: str) -> dict[str, str]:
    """The tune task's links, which must be there while it runs."""
    path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/tune"

    def shown() -> dict[str, str]:
        links, state = site.api("GET", f"{path}/links")["extra_links"], site.api("GET", path)["state"]
        assert state not in ("success", "failed"), f"the task ended in state {state} and showed {links}"
        return dict(links) if links and all(links.values()) and state == "running" else {}

    return wait_until(shown, f"the links of {dag_id}'s tune task", every_s=0.5)


def test_the_tasks_log_reads_as_a_story(site: Site, tuned: str) -> None:
    lines = [line for line in site.log("tune_diabetes", tuned, "tune") if "[tuning]" in line]
    story = "\n".join(lines)
    for chapter in (
        "Connecting to Spark",
        "application app-",
        "Starting 2 workers",
        f"{TRIALS}/{TRIALS} trials, best ",
    ):
        assert chapter in story
    assert re.search(r"best [\d.]+ \(trial \d+\)", story)
    assert all(line.startswith("[tuning]") for line in lines), "Airflow's log has the time already"


# --- retuning -------------------------------------------------------------------------------------------------------


def test_an_asset_starts_a_run_that_skips_and_says_why(site: Site, steady: str, chromium: Browser) -> None:
    assert site.states("tune_steady", steady)["rescore_best_trial"] == "skipped"

    second = update_asset(site, "table", "tune_steady")
    site.must_succeed("tune_steady", second)
    states = site.states("tune_steady", second)
    assert (states["rescore_best_trial"], states["decide_retune"]) == ("success", "skipped")
    assert {states[name] for name in ("prepare_study", "tune", "export_best_trials")} == {"skipped"}
    reason = str(site.xcom("tune_steady", second, "decide_retune", "skipped_because"))
    assert "a change of 0.00%" in reason

    chromium.open(f"/dags/tune_steady/runs/{quote(second)}/plugin/best-trials")
    with chromium.frame():
        chromium.see("Nothing was tuned")
        chromium.see("a change of 0.00%")


@pytest.mark.usefixtures("steady")
def test_a_value_that_is_no_better_is_not_published(site: Site) -> None:
    again = site.trigger("tune_steady", {"trials": 1})
    site.must_succeed("tune_steady", again)
    assert len(events(site, "best_params_steady")) == 1
    assert any(
        "Asset event of best_params_steady not published: " in line
        for line in site.log("tune_steady", again, "export_best_trials")
    )


def test_new_data_starts_the_study_anew_with_the_old_best_first(site: Site) -> None:
    table = site.layout.root / "dags" / "studies" / "table.csv"
    table.write_text("x,y\n1,2\n")
    first = site.trigger("tune_watching", {})
    site.must_succeed("tune_watching", first)
    old = trials_of(site, "watching")
    assert len(old) == 3

    second = update_asset(site, "lake", "tune_watching")
    site.must_succeed("tune_watching", second)
    assert site.states("tune_watching", second)["tune"] == "skipped"
    reason = site.xcom("tune_watching", second, "decide_retune", "skipped_because")
    assert reason == "the data has not changed since the last export"

    table.write_text("x,y\n1,2\n3,4\n")
    third = update_asset(site, "lake", "tune_watching")
    site.must_succeed("tune_watching", third)
    new = trials_of(site, "watching")
    assert len(new) == 3
    assert sorted(new[:2]) == sorted(old)[:2]


def trials_of(site: Site, name: str) -> list[float]:
    """The values of a study's trials, as the dashboard inside Airflow tells them."""
    token = site.token("viewer")
    studies = site.request("GET", "/tuning/optuna/api/studies", token=token)[1]["study_summaries"]
    number = next(study["study_id"] for study in studies if study["study_name"] == name)
    detail = site.request("GET", f"/tuning/optuna/api/studies/{number}", token=token)[1]
    return [trial["values"][0] for trial in detail["trials"]]


def update_asset(site: Site, asset: str, dag_id: str) -> str:
    """Say that an asset changed. Returns the id of the run that this starts."""
    known = newest_run(site, dag_id)
    number = next(a["id"] for a in site.api("GET", "/assets")["assets"] if a["name"] == asset)
    site.api("POST", "/assets/events", {"asset_id": number, "extra": {}})
    return wait_for_another_run(site, dag_id, known)


def events(site: Site, asset: str) -> list[dict[str, object]]:
    found = site.api("GET", "/assets/events")["asset_events"]
    return [event for event in found if event["name"] == asset]


def wait_for_another_run(site: Site, dag_id: str, known: str) -> str:
    wait_until(lambda: newest_run(site, dag_id) != known, f"another run of {dag_id} than {known!r}", every_s=1)
    return newest_run(site, dag_id)


# --- the schedule ---------------------------------------------------------------------------------------------------


def test_a_cron_schedule_runs_its_latest_slot_and_then_each_as_it_comes(site: Site) -> None:
    unpaused = datetime.now(UTC)
    site.api("PATCH", "/dags/tune_minutely", {"is_paused": False})
    first = wait_for_another_run(site, "tune_minutely", "")
    site.must_succeed("tune_minutely", first)
    second = wait_for_another_run(site, "tune_minutely", first)
    site.must_succeed("tune_minutely", second)
    site.api("PATCH", "/dags/tune_minutely", {"is_paused": True})
    runs = site.api("GET", "/dags/tune_minutely/dagRuns?order_by=run_after")["dag_runs"]
    assert [run["dag_run_id"] for run in runs[:2]] == [first, second]
    assert {run["run_type"] for run in runs} == {"scheduled"}
    slots = [moment(run["logical_date"]) for run in runs]
    # Months of slots were missed. The latest is the one of the moment Airflow last read the file.
    assert unpaused - timedelta(minutes=2) <= slots[0] <= unpaused
    assert slots[0] < slots[1]
    assert moment(runs[0]["end_date"]) <= moment(runs[1]["start_date"])
    assert len(trials_of(site, "minutely")) >= 6


@pytest.mark.parametrize("slots", [1, 2])
def test_studies_at_once_share_the_cluster_as_the_pool_allows(
    site: Site, slots: int, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: set_pool(site, 1))
    set_pool(site, slots)
    conf = {"mode": "reset", "trials": 4, "tasks": 1}
    runs = {name: site.trigger(f"tune_{name}", conf) for name in ("steady", "diabetes")}
    for name, run_id in runs.items():
        site.must_succeed(f"tune_{name}", run_id)
    earlier, later = sorted(tune_times(site, f"tune_{name}", run_id) for name, run_id in runs.items())
    assert (later[0] < earlier[1]) == (slots == 2)
    assert [len(trials_of(site, name)) for name in runs] == [4, 4]


def set_pool(site: Site, slots: int) -> None:
    pool = {"name": "tuning_spark", "slots": slots, "include_deferred": False}
    site.api("PATCH", "/pools/tuning_spark?update_mask=slots", pool)


def tune_times(site: Site, dag_id: str, run_id: str) -> tuple[datetime, datetime]:
    """When the tune task of a run began and ended."""
    task = site.api("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/tune")
    return moment(task["start_date"]), moment(task["end_date"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- a failure ------------------------------------------------------------------------------------------------------


def test_a_failed_run_says_why_and_its_tab_where_to_look(site: Site) -> None:
    run_id = site.trigger("tune_steady", {"sampler": "Tpe"})
    assert site.wait_for_run("tune_steady", run_id) == "failed"
    logged = json.dumps(site.log_records("tune_steady", run_id, "provision_database"))
    assert "sampler: a run may name one of TPESampler" in logged
    assert "Trigger again with another value; the study file is right as it is." in logged
    page = site.request("GET", f"/tuning/report/tune_steady/{quote(run_id)}", token=site.token("viewer"))[1]
    assert "The run failed" in page


# --- the end --------------------------------------------------------------------------------------------------------


def test_a_killed_service_leaves_no_process_and_is_started_again(fragile: Site) -> None:
    scheduler = service(fragile, "airflow-scheduler")
    below = descendants(scheduler.pid)
    assert len(below) > 1
    os.kill(below[0], signal.SIGKILL)
    wait_until_gone([scheduler.pid, *below])
    assert fragile.services.ensure()
    assert scheduler.running()


def test_stopping_ends_every_process(fragile: Site) -> None:
    running = [service(fragile, name).pid for name in SERVICES]
    below = [pid for guard in running for pid in descendants(guard)]
    fragile.services.stop()
    wait_until_gone([*running, *below])
    left = [json.loads(file.read_text()) for file in (fragile.layout.state / "run").glob("airflow-*.pid")]
    assert left == []


def wait_until_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(birth(pid) for pid in pids), f"all of {pids} to end")
