"""*Finish now* for a run whose study is on a Databricks driver: a file in the run's folder in the workspace."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.databricks import VOLUME, Workspace, databricks_workspace
from tests.support.databricks_fixtures import connect
from tests.support.pages_server import HTML, Server, pages_server
from tuning_pipeline.exports.folders.paths import folder_name
from tuning_pipeline.pages import cluster_finish
from tuning_pipeline.runs.identity import RunIdentity

MADE = "2026-11-27T11:13:13.247611+00:00"
FAR = f"far{uuid.uuid4().hex[:8]}"  # its own in each session: the tests' Airflow keeps its runs
DAG_ID = f"tune_{FAR}"
STUDY = (
    "objective: quadratic\ntarget: databricks\nstudy: far\n"
    f"databricks: {{files: {VOLUME}, cluster: {{node_type: n}}}}\n"
)
HERE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def workspace() -> Iterator[Workspace]:
    with databricks_workspace() as service:
        yield service
        assert service.problems == []


@pytest.fixture(scope="module")
def server(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,testserver")
        connect(patch, workspace)
        with pages_server(tmp_path_factory.mktemp("far"), **{FAR: STUDY}) as found:
            yield found


def tuning(server: Server, run_id: str, made: Any = MADE) -> None:
    """A run whose tune task is at work."""
    assert server.trigger(DAG_ID, run_id).status_code == 200
    server.leave(run_id, "upload_job_files", "run_made", made, DAG_ID)
    server.is_now(run_id, "running", DAG_ID, tune="deferred")


def tab(server: Server, run_id: str, role: str = "user") -> str:
    reply = server.get(server.tab(run_id, DAG_ID), role)
    assert reply.status_code == 200
    return re.sub(r"\s+", " ", str(reply.text))


def finish(server: Server, run_id: str, role: str = "user", **headers: str) -> Any:
    path = server.tab(run_id, DAG_ID).replace("/report/", "/finish/")
    return server.send("POST", path, None, role, **headers)


def requests(workspace: Workspace, run_id: str) -> dict[str, dict[str, str]]:
    """The requests to runs of this id, by the folder they lie in."""
    found = workspace.root.rglob("finish.json")
    texts = {f"/{file.parent.relative_to(workspace.root).as_posix()}": file.read_text() for file in found}
    return {folder: json.loads(text) for folder, text in texts.items() if f"/{run_id}" in folder}


def folder_of(run_id: str, made: str = MADE) -> str:
    return f"{VOLUME}/runs/far/{folder_name(RunIdentity(DAG_ID, run_id, made).key)}"


def test_who_may_edit_the_run_finishes_it_from_the_tab(server: Server, workspace: Workspace) -> None:
    tuning(server, "finish")
    action = re.search(r'<form method="post" action="([^"]+)"', tab(server, "finish"))
    assert action is not None
    reply = server.send("POST", action[1], None, "user", **HERE)
    assert (reply.status_code, reply.headers["Location"]) == (303, server.tab("finish", DAG_ID))
    key = RunIdentity(DAG_ID, "finish", MADE).key
    assert requests(workspace, "finish") == {folder_of("finish"): {"run": key, "by": "uma"}}
    page = tab(server, "finish", "viewer")
    assert "uma asked the run to finish: its running trials end" in page
    assert "<form" not in tab(server, "finish")
    # The driver takes the file away at its end; then there is nothing to finish.
    server.is_now("finish", "success", DAG_ID, tune="success")
    assert "asked the run to finish" not in tab(server, "finish")


@pytest.mark.attack("the pages", "Finish now of a run on Databricks by a user who may only look")
def test_a_viewer_has_no_button_and_finishes_nothing(server: Server, workspace: Workspace) -> None:
    tuning(server, "looked_at")
    assert "<form" not in tab(server, "looked_at", "viewer")
    assert finish(server, "looked_at", "viewer", **HERE).status_code == 403
    assert finish(server, "looked_at", "user", **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert requests(workspace, "looked_at") == {}


@pytest.mark.attack("the pages", "an XCom or conf that leads a request to finish to another run or folder")
@pytest.mark.parametrize("made", [MADE, "../../../../Workspace/Shared/evil", {"runs": "/Volumes/main/default/evil"}])
def test_rewritten_xcoms_lead_a_request_to_no_other_run_or_folder(
    server: Server, workspace: Workspace, made: Any
) -> None:
    number = len(str(made))
    honest, liar = f"honest_{number}", f"liar_{number}"
    tuning(server, honest)
    tuning(server, liar, made)
    forged = {"output": folder_of(honest), "study": "../other", "databricks": {"files": "/Volumes/e/v/il"}}
    for task, key in (("upload_job_files", "return_value"), ("prepare_study", "settings")):
        server.leave(liar, task, key, forged, DAG_ID)
    server.leave(liar, "tune", "run_made", MADE.replace("11:13", "12:13"), DAG_ID)
    assert finish(server, liar, **HERE).status_code == 303
    assert requests(workspace, honest) == {}
    (folder,) = requests(workspace, liar)
    assert re.fullmatch(rf"{VOLUME}/runs/far/{liar}(\.[0-9a-f]{{8}})?", folder)
    assert finish(server, f"../{honest}", **HERE).status_code == 404


def test_a_run_that_does_not_tune_now_cannot_be_finished(server: Server, workspace: Workspace) -> None:
    tuning(server, "waits")
    for state in ("queued", "up_for_retry", "success"):
        server.is_now("waits", "running", DAG_ID, tune=state)
        assert "<form" not in tab(server, "waits")
        reply = finish(server, "waits", **HERE, Accept=HTML)
        assert reply.status_code == 409
        assert "runs no trials now" in reply.text
    assert requests(workspace, "waits") == {}


def test_a_workspace_that_refuses_breaks_no_tab_and_is_one_sentence(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning(server, "refused")
    connect(monkeypatch, workspace, token="expired")
    assert "<form" in tab(server, "refused")
    reply = finish(server, "refused", **HERE, Accept=HTML)
    assert (reply.status_code, "refuses the credentials of connection" in reply.text) == (503, True)
    assert "<h1>The run was not asked to finish</h1>" in reply.text
    assert "expired" not in reply.text


def test_the_workspace_is_not_asked_at_every_look(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_finish, "HOLDS_S", 1e9)
    tuning(server, "stared_at")
    before = len(workspace.requests)
    tab(server, "stared_at")
    after = len(workspace.requests)
    assert after > before
    tab(server, "stared_at")
    assert len(workspace.requests) == after
