"""The pages inside Airflow's real API server: what they serve, to whom, and what no request makes them do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.airflow import DagFolder
from tests.support.pages_server import RUN, Server, pages_server
from tuning_pipeline.exports.folders.paths import folder_name

SECRET = "a report that lies elsewhere on this disk"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pages_server(tmp_path_factory.mktemp("pages")) as found:
        yield found


@pytest.fixture
def folder(server: Server) -> DagFolder:
    return server.folder


def write_report(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(text)


def test_a_report_is_served_with_a_policy_in_its_header(server: Server, folder: DagFolder) -> None:
    assert "The run is queued" in server.get(server.tab(RUN)).text
    server.is_now(RUN, "success")
    write_report(folder.path.parent / "exports" / server.name / folder_name(RUN), "the report of this run")
    reply = server.get(server.tab(RUN))
    assert (reply.status_code, reply.text) == (200, "the report of this run")
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_the_tab_says_whether_the_result_was_published_and_why(server: Server, folder: DagFolder) -> None:
    assert server.trigger(server.dag_id, "told").status_code == 200
    server.leave("told", "export_best_trials", "published", "not published: 0.6 is no better than <0.5>")
    server.is_now("told", "success")
    write_report(folder.path.parent / "exports" / server.name / "told", "<main>\nthe report")
    assert server.get(server.tab("told")).text == (
        '<main>\n<p class="note">Asset event not published: 0.6 is no better than &lt;0.5&gt;.</p>\nthe report'
    )


def test_a_dag_s_tab_leads_to_the_newest_run_that_exported_its_result(server: Server) -> None:
    def led_to() -> str:
        reply = server.get(f"/tuning/latest/{server.dag_id}")
        assert reply.status_code == 307
        return str(reply.headers["location"])

    assert "tunes no study" in server.get("/tuning/latest/stranger").text
    assert server.trigger(server.dag_id, "good").status_code == 200
    assert led_to() == server.tab("good"), "the newest run while none has a result"
    server.is_now("good", "success", export_best_trials="success")
    assert server.trigger(server.dag_id, "newer").status_code == 200
    assert led_to() == server.tab("good")
    server.is_now("newer", "success", tune="skipped", export_best_trials="skipped")  # as decide_retune leaves a run
    assert led_to() == server.tab("good")
    assert server.trigger(server.dag_id, "newest").status_code == 200
    server.is_now("newest", "success", export_best_trials="success")
    assert led_to() == server.tab("newest")


FOLDERS = ["http://127.0.0.1:{port}", "file://{disk}", "{disk}", "{disk}/../elsewhere"]


@pytest.mark.attack("the pages", "an XCom rewritten to another folder or to an address")
@pytest.mark.parametrize("forged", FOLDERS)
def test_a_rewritten_xcom_leads_to_no_other_report(
    server: Server, folder: DagFolder, tmp_path: Path, forged: str, listener: Listener
) -> None:
    disk = folder.path.parent / "elsewhere"
    write_report(disk, SECRET)
    run_id = f"forged{FOLDERS.index(forged)}"
    assert server.trigger(server.dag_id, run_id).status_code == 200
    value = {"folder": forged.format(port=listener.port, disk=disk)}
    path = f"/api/v2/dags/{server.dag_id}/dagRuns/{run_id}/taskInstances/export_best_trials/xcomEntries"
    body = {"key": "return_value", "value": value, "map_index": -1}
    assert server.send("POST", path, body).status_code == 201, "who may trigger may write XComs: Airflow's own rule"
    reply = server.get(server.tab(run_id), "user")
    assert SECRET not in reply.text
    assert "The run is queued" in reply.text
    assert listener.connections == 0


class Listener:
    """An address inside that nobody outside may reach; it counts who came."""

    def __init__(self) -> None:
        import socket
        import threading

        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return
            self.connections += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


@pytest.mark.attack("the pages", "another DAG's or a made-up run's report")
@pytest.mark.parametrize(
    ("dag_id", "run_id"), [("stranger", RUN), ("", "none"), ("none", RUN), ("", "../../elsewhere")]
)
def test_only_a_run_that_tunes_a_study_has_a_report(server: Server, dag_id: str, run_id: str) -> None:
    reply = server.get(server.tab(run_id, dag_id))
    assert reply.status_code == 404
    assert "<h1>No such run</h1>" in reply.text


@pytest.mark.attack("the pages", "a run whose id climbs out of the exports")
@pytest.mark.parametrize("run_id", ["..", ".", "latest", "~", "LATEST"])
def test_no_run_id_leads_out_of_the_exports(server: Server, folder: DagFolder, run_id: str) -> None:
    base = folder.path.parent
    for place in (base, base / "exports", base / "exports" / server.name / "latest"):
        write_report(place, SECRET)
    made = server.trigger(server.dag_id, run_id)
    reply = server.get(f"/tuning/report/{server.dag_id}/{quote(run_id)}")
    assert reply.status_code < 500, made.text
    assert SECRET not in reply.text
    for place in (base, base / "exports", base / "exports" / server.name / "latest"):
        (place / "report.html").unlink()


def test_a_folder_that_leads_out_of_the_exports_is_no_export(tmp_path: Path) -> None:
    from tuning_pipeline.pages.run_report import folder_below

    (tmp_path / "exports").mkdir()
    (tmp_path / "outside" / "r").mkdir(parents=True)
    assert folder_below(str(tmp_path / "exports"), "study", "r") is not None
    (tmp_path / "exports" / "study").symlink_to(tmp_path / "outside")
    assert folder_below(str(tmp_path / "exports"), "study", "r") is None


ODD = [
    "%ff", "%e2%82%ac", "%00", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fsecrets.env", "%c0%ae%c0%ae/", "%f0%9f%92%a9",
    "//", "a//b", "%0d%0aX-Header:%201", "%3Cscript%3E", "%25ff", "\\..\\..", "x" * 3000, "%ed%a0%80", "*", "[", "{}",
    "99999999999999999999", "-1", "1e9", "0x1", "%20", "+", ";a=b", "null",
]  # fmt: skip
QUERIES = [
    "",
    "?after=x",
    "?after=-1",
    "?after=99999999999999999999",
    "?after=1&after=x",
    "?after=%ff",
    "?after=",
    "?%ff",
]
PLACES = [
    "/tuning/optuna/{}", "/tuning/optuna/api/studies/{}", "/tuning/optuna/api/studies/{}/param_importances",
    "/tuning/optuna/api/studies/{}/plot/contour", "/tuning/optuna/api/studies/1/plot/{}", "/tuning/optuna/csv/{}",
    "/tuning/optuna/static/{}", "/tuning/optuna/dashboard/studies/{}", "/tuning/optuna/artifacts/{}",
    "/tuning/study/{}", "/tuning/report/{}", "/tuning/report/{dag_id}/{}", "/tuning/report/{}/" + RUN, "/tuning/{}",
]  # fmt: skip


@pytest.mark.attack("the pages", "an odd path", times=len(ODD))
@pytest.mark.parametrize("place", PLACES)
def test_an_odd_path_is_never_an_internal_error(server: Server, place: str) -> None:
    statuses = {odd: server.get(place.replace("{dag_id}", server.dag_id).replace("{}", odd)).status_code for odd in ODD}
    assert {odd: status for odd, status in statuses.items() if status >= 500} == {}


@pytest.mark.attack("the pages", "an odd query", times=len(QUERIES))
@pytest.mark.parametrize("place", [*PLACES, "/tuning/optuna/api/studies/1", "/tuning/optuna/csv/1"])
def test_an_odd_query_is_never_an_internal_error(server: Server, place: str) -> None:
    path = place.replace("{dag_id}", server.dag_id).replace("{}", "1")
    statuses = {query: server.get(path + query).status_code for query in QUERIES}
    assert {query: status for query, status in statuses.items() if status >= 500} == {}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tuning/optuna/%ff", 404),
        ("/tuning/optuna/%e2%82%ac", 404),
        ("/tuning/report/{dag_id}/", 404),
        ("/tuning/optuna/api/studies/1?after=x", 400),
        ("/tuning/optuna/api/studies/7", 404),
        ("/tuning/optuna/api/studies/1?after=0", 200),
        ("/tuning/optuna/api/studies/1/plot/pareto_front", 400),
        ("/tuning/optuna/", 302),
        ("/tuning/optuna/dashboard/studies/1", 200),
    ],
)
def test_what_is_not_there_is_said_so(server: Server, path: str, status: int) -> None:
    assert server.get(path.replace("{dag_id}", server.dag_id)).status_code == status


@pytest.mark.attack("the trigger", "a run posted to Airflow's API by a user who may only trigger")
def test_a_user_who_may_only_trigger_gets_no_run_with_an_unknown_field_past_the_first_task(
    server: Server, folder: DagFolder
) -> None:
    """Airflow takes the conf without a word, so the first task, and every other, refuses it."""
    from tuning_pipeline.dag.form import study_of_run
    from tuning_pipeline.study_file.study_file import StudyFileError, read_study

    conf = {"spark_conf": {"spark.driver.extraJavaOptions": "-XX:OnOutOfMemoryError=id"}}
    assert server.trigger(server.dag_id, "options", **conf).status_code == 200
    kept = json.loads(server.get(f"/api/v2/dags/{server.dag_id}/dagRuns/options").text)["conf"]
    assert kept == conf
    with pytest.raises(StudyFileError, match="does not offer spark_conf"):
        study_of_run(read_study(folder.path / "studies" / f"{server.name}.yaml"), kept, kept)
