"""The run that works on a study in the workspace is told to finish, and no other one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.databricks import VOLUME, Workspace
from tests.support.databricks_fixtures import DATABRICKS
from tests.support.databricks_fixtures import workspace as workspace  # a fixture
from tests.support.studies import study_reader
from tuning_pipeline.commands.finish import finish
from tuning_pipeline.failures import TaskError
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.databricks.finish_request import request_finish, requested_by, withdraw_finish
from tuning_pipeline.targets.databricks.payload import run_payload
from tuning_pipeline.targets.databricks.workspace.paths import RemoteFiles
from tuning_pipeline.targets.databricks.workspace.upload import run_output

BASE = f"objective: quadratic\ntarget: databricks\ndatabricks: {{files: {VOLUME}/, cluster: {{node_type: n}}}}\n"
RUN_ID, MADE = "manual__2026-11-27T11:13:13.2+00:00", "2026-11-27T11:13:13.247611+00:00"
KEY, LATER = RunIdentity("tune_s", RUN_ID, MADE).key, RunIdentity("tune_s", RUN_ID, MADE.replace("27T", "28T")).key

Study = Callable[[str], StudyFile]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


def submit(workspace: Workspace, study: StudyFile, key: str, output: str = "") -> int:
    workspace.faults.start_s = 600
    output = output or run_output(study, key)
    files = RemoteFiles(f"{VOLUME}/p.zip", f"{VOLUME}/tune.py", (f"{VOLUME}/init.sh",), f"{VOLUME}/spec.json", output)
    token = hashlib.sha256(output.encode()).hexdigest()
    return workspace.submit(run_payload(study, study.to_spec(key), files, token, None))


def requests(workspace: Workspace) -> dict[str, dict[str, str]]:
    """The requests in the workspace, by the folder they lie in."""
    found = workspace.path(VOLUME).rglob("finish.json")
    return {file.parent.relative_to(workspace.path(VOLUME)).as_posix(): json.loads(file.read_text()) for file in found}


def test_the_live_run_of_the_study_is_asked_and_no_other(workspace: Workspace, study: Study) -> None:
    mine, other = study(f"{BASE}study: mine\n"), study(f"{BASE}study: mine-too\n")
    workspace.cancel(submit(workspace, mine, "ended.0"))
    workspace.run(1000).end("TERMINATED", "CANCELED", "", "")
    submit(workspace, other, "another.1")
    submit(workspace, mine, "of another Airflow.2", f"{VOLUME}/elsewhere/runs/mine/2")
    submit(workspace, mine, KEY)
    said = finish(mine, "alice")
    assert said == (
        f"run {KEY} of study mine was told to finish: its running trials have 60 s to end, then it exports what it has"
    )
    folder = run_output(mine, KEY).removeprefix(f"{VOLUME}/")
    assert folder.startswith("runs/mine/manual__2026-11-27T11-13-13.2Z.")
    assert requests(workspace) == {folder: {"run": KEY, "by": "alice"}}


def test_where_no_run_works_on_the_study_nothing_is_asked(workspace: Workspace, study: Study) -> None:
    given = study(f"{BASE}study: mine\n")
    submit(workspace, study(f"{BASE}study: mine2\n"), KEY)
    with pytest.raises(TaskError, match="no run works on study 'mine' now"):
        finish(given, "alice")
    assert requests(workspace) == {}


def test_a_run_that_begins_once_more_forgets_an_old_request(workspace: Workspace, study: Study) -> None:
    given = study(BASE)
    place = (DATABRICKS, given.runs_folder)
    for key in (KEY, LATER):
        assert requested_by(*place, key) is None
        request_finish(*place, key, f"who asks {key}")
    withdraw_finish(given, KEY)
    withdraw_finish(given, KEY)  # a task may run twice
    assert requested_by(*place, KEY) is None
    assert requested_by(*place, LATER) == f"who asks {LATER}"


def test_only_a_study_without_a_database_takes_requests_there(study: Study) -> None:
    assert study(BASE + "study: s\n").runs_folder == f"{VOLUME}/runs/s"
    assert study(BASE.replace("files:", "database: external, files:")).runs_folder == ""
    assert study("objective: quadratic\n").runs_folder == ""
