"""A run that ends badly is one card with its link; a task that comes back finds the run it had started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.cards import unwrapped
from tests.support.databricks import VOLUME, Workspace
from tests.support.databricks_fixtures import DATABRICKS, connect
from tests.support.databricks_fixtures import workspace as workspace  # a fixture
from tests.support.waiting import wait_until
from tuning_pipeline.dag.form import form_params
from tuning_pipeline.failures import TaskError
from tuning_pipeline.study_file.study_file import StudyFile, read_study
from tuning_pipeline.targets.databricks.failures import run_failure
from tuning_pipeline.targets.databricks.operator import TuneOnDatabricks
from tuning_pipeline.targets.databricks.workspace.runs import end_live_runs
from tuning_pipeline.targets.databricks.workspace.upload import run_output, upload_job_files

LINK = "https://example.com/#job/7/run/1"
SECTION = f"databricks:\n  files: {VOLUME}\n  poll_s: 1\n  cluster: {{node_type: n}}\n"
BASE = f"objective: quadratic\ntarget: databricks\n{SECTION}"


def run(result: str = "FAILED", message: str = "", code: str = "") -> dict[str, Any]:
    state = {"life_cycle_state": "INTERNAL_ERROR", "result_state": result, "state_message": message}
    return {"run_page_url": LINK, "state": state, "status": {"termination_details": {"code": code}}}


CARDS = [
    (run("CANCELED"), "the run was cancelled in the Databricks workspace", False),
    (run("TIMEDOUT"), "the run took longer than execution_timeout_s", True),
    (run(message="Reason: INIT_SCRIPT_FAILURE", code="CLUSTER_ERROR"), "the cluster's init script failed", False),
    (run(message="Insufficient capacity", code="CLUSTER_ERROR"), "a quota or limit keeps the run", True),
    (run(code="CLUSTER_REQUEST_LIMIT_EXCEEDED"), "a quota or limit keeps the run", True),
    (run(message="Node type x is not supported", code="INVALID_CLUSTER_REQUEST"), "cannot make the cluster", False),
    (run(message="Bootstrap timeout", code="CLUSTER_ERROR"), "the cluster did not start", True),
    (run(message="spot instance preempted", code="DRIVER_ERROR"), "the cluster was lost", True),
    (run(code="CLUSTER_TERMINATED_BY_USER"), "the cluster was lost", True),
    (run(message="Workload failed", code="RUN_EXECUTION_ERROR"), "the job on Databricks ended with an error", True),
    (run(), "the run ended without success", True),
]


@pytest.mark.parametrize(("ended", "what", "retry"), CARDS)
def test_each_end_has_a_card_with_the_runs_link(ended: dict[str, Any], what: str, retry: bool) -> None:
    failure = run_failure(ended, None, None)
    assert failure.what.startswith(what) or what in failure.what
    assert (failure.where, failure.retry) == (LINK, retry)
    assert failure.next


def test_what_the_job_itself_says_comes_first() -> None:
    report = {"error": "DataError", "what": "no file t.csv", "why": "", "next": "Correct data."}
    failure = run_failure(run(code="RUN_EXECUTION_ERROR"), {"error": "SystemExit"}, report)
    assert (failure.what, failure.where, failure.retry) == ("no file t.csv", LINK, False)


def test_without_a_report_the_output_is_the_cause() -> None:
    assert run_failure(run(message="failed"), {"error": "MemoryError: 1"}, None).why == "MemoryError: 1"


@dataclass
class TaskInstance:
    """What the operator asks of a task instance."""

    files: dict[str, Any]
    try_number: int = 1
    max_tries: int = 2
    task_id: str = "tune"
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        if key != "return_value":
            return None
        return {key: list(value) if isinstance(value, tuple) else value for key, value in self.files.items()}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@dataclass
class DagRun:
    dag_id: str = "tune_example"
    run_id: str = "manual__1"
    run_type: str = "manual"
    conf: dict[str, Any] = field(default_factory=dict)


Make = Callable[..., tuple[TuneOnDatabricks, dict[str, Any]]]


@pytest.fixture
def tried(workspace: Workspace, tmp_path: Path) -> Make:
    """The operator and context of a try, as another process would make them."""
    path = tmp_path / "dags" / "studies" / "example.yaml"
    path.parent.mkdir(parents=True)

    def make(try_number: int = 1, text: str = BASE) -> tuple[TuneOnDatabricks, dict[str, Any]]:
        path.write_text(text)
        study: StudyFile = read_study(path)
        operator = TuneOnDatabricks(task_id="tune", dag=None, study=study)
        params = {name: param.value for name, param in form_params(study).items()}
        given = TaskInstance(upload_job_files(study, "manual__1"), try_number)
        return operator, {"ti": given, "dag_run": DagRun(), "params": params}

    return make


class Died(BaseException):
    """A worker that is gone: nothing of it runs any more."""


def submit_and_die(made: tuple[TuneOnDatabricks, dict[str, Any]], patch: pytest.MonkeyPatch) -> None:
    operator, context = made
    with patch.context() as dying:
        dying.setattr(operator, "_wait", lambda hook, context: (_ for _ in ()).throw(Died()))
        with pytest.raises(Died):
            operator.execute(context)  # type: ignore[arg-type]


def test_a_task_whose_worker_died_finds_its_run(
    workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.faults.start_s = 600
    submit_and_die(tried(1), monkeypatch)
    submit_and_die(tried(2), monkeypatch)
    assert len(workspace.runs) == 1


def test_a_submission_whose_answer_was_lost_is_one_run(
    workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.faults.start_s, workspace.faults.lose_answer = 600, True
    submit_and_die(tried(1), monkeypatch)
    assert len(workspace.runs) == 1


def test_a_run_that_failed_has_one_successor(
    workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowException

    workspace.faults.cluster = "Bootstrap timeout"
    operator, context = tried(1)
    with pytest.raises(AirflowException, match="the cluster did not start") as caught:
        operator.execute(context)  # type: ignore[arg-type]
    (first,) = workspace.runs.values()
    assert f"Where  {first.url}" in str(caught.value)
    assert context["ti"].pushed["run_page_url"] == first.url
    workspace.faults.cluster, workspace.faults.start_s = None, 600
    submit_and_die(tried(2), monkeypatch)
    submit_and_die(tried(3), monkeypatch)
    assert len(workspace.runs) == 2


def test_a_killed_task_cancels_its_run(workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.faults.start_s = 2
    made = tried(1)
    submit_and_die(made, monkeypatch)
    made[0].on_kill()
    wait_until(lambda: all(given.ended for given in workspace.runs.values()), "the run to end")
    (only,) = workspace.runs.values()
    assert only.result == "CANCELED"


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ({"cluster": "Reason: AZURE_QUOTA_EXCEEDED_EXCEPTION: quota of cores"}, "a quota or limit keeps the run"),
        ({"cluster": "Node type x unknown", "cluster_code": "INVALID_CLUSTER_REQUEST"}, "cannot make the cluster"),
    ],
)
def test_a_cluster_that_does_not_start_is_one_card(
    workspace: Workspace, tried: Make, fault: dict[str, str], what: str
) -> None:
    from airflow.sdk.exceptions import AirflowException

    for name, value in fault.items():
        setattr(workspace.faults, name, value)
    operator, context = tried()
    with pytest.raises(AirflowException, match=what):
        operator.execute(context)  # type: ignore[arg-type]


def test_an_init_script_that_fails_is_one_card(workspace: Workspace, tried: Make) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    operator, context = tried(text=BASE.replace("node_type: n", f"node_type: n, init_scripts: ['{VOLUME}/bad.sh']"))
    workspace.path(f"{VOLUME}/bad.sh").write_text("echo no route to the package index >&2\nexit 3\n")
    with pytest.raises(AirflowFailException, match="init script failed") as caught:
        operator.execute(context)  # type: ignore[arg-type]
    assert "no route to the package index" in unwrapped(str(caught.value))


def test_a_run_cancelled_in_the_workspace_is_not_tried_again(
    workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    workspace.faults.start_s = 2
    operator, context = tried()
    submit_and_die((operator, context), monkeypatch)
    workspace.cancel(next(iter(workspace.runs)))
    with pytest.raises(AirflowFailException, match="the run was cancelled in the Databricks workspace"):
        operator.execute(context)  # type: ignore[arg-type]
    assert len(workspace.runs) == 1


def test_a_wrong_token_is_one_card(workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    operator, context = tried()
    connect(monkeypatch, workspace, token="expired")
    with pytest.raises(AirflowFailException, match="refuses the credentials of connection"):
        operator.execute(context)  # type: ignore[arg-type]
    assert not workspace.runs


def test_an_unreachable_workspace_can_be_tried_again(tried: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from tests.support.connections import set_connection

    operator, context = tried()
    monkeypatch.setattr("tuning_pipeline.targets.databricks.workspace.access.RETRY_S", 1)
    set_connection(
        monkeypatch, DATABRICKS, conn_type="databricks", host="127.0.0.1", schema="http", port=1, password="t"
    )
    with pytest.raises(AirflowException, match="no Databricks workspace answers at http://127") as caught:
        operator.execute(context)  # type: ignore[arg-type]
    assert not isinstance(caught.value, AirflowFailException)


def test_a_restarted_triggerer_sees_the_same_run_end(workspace: Workspace, tried: Make) -> None:
    from airflow.sdk.exceptions import AirflowException, TaskDeferred

    workspace.faults.start_s, workspace.faults.cluster = 3, "Bootstrap timeout"
    operator, context = tried(text=BASE + "  deferrable: true\n")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)  # type: ignore[arg-type]
    kind, arguments = deferred.value.trigger.serialize()
    assert deferred.value.method_name == "execute_complete"

    async def first_event(seconds: float) -> Any:
        from airflow.sdk._shared.module_loading import import_string

        async with asyncio.timeout(seconds):
            async for event in import_string(kind)(**arguments).run():
                return event.payload
        return None

    with pytest.raises(TimeoutError):
        asyncio.run(first_event(1))
    event = asyncio.run(first_event(60))
    again, context = tried(text=BASE + "  deferrable: true\n")
    with pytest.raises(AirflowException, match="the cluster did not start"):
        again.execute_complete(context, event)
    assert len(workspace.runs) == 1


def test_a_deferred_task_out_of_time_leaves_no_run_behind(workspace: Workspace, tried: Make) -> None:
    from airflow.sdk.exceptions import AirflowException, TaskDeferred

    workspace.faults.start_s = 3
    operator, context = tried(text=BASE + "  deferrable: true\nexecution_timeout_s: 7000\n")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)  # type: ignore[arg-type]
    assert deferred.value.timeout == timedelta(seconds=7000)
    again, context = tried(text=BASE + "  deferrable: true\nexecution_timeout_s: 7000\n")
    with pytest.raises(AirflowException, match="ran longer than execution_timeout_s"):
        again.resume_execution("__fail__", {"error": "Trigger timeout"}, context)  # type: ignore[arg-type]
    (only,) = workspace.runs.values()
    assert (only.result, only.payload["timeout_seconds"]) == ("CANCELED", 7000)


def test_a_signal_before_the_run_has_a_number_cancels_it(workspace: Workspace, tried: Make) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    workspace.faults.start_s = 3
    operator, context = tried()
    operator.on_kill()
    with pytest.raises(AirflowFailException, match="Airflow ended this task"):
        operator.execute(context)  # type: ignore[arg-type]
    (only,) = workspace.runs.values()
    assert only.result == "CANCELED"


def test_only_the_live_runs_of_this_dag_run_are_ended(
    workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.faults.start_s = 4
    others = [DagRun(run_id=f"manual__{number}") for number in (2, 3, 4, 5)]
    for dag_run in others:
        operator, context = tried()
        submit_and_die((operator, context | {"dag_run": dag_run}), monkeypatch)
    study = operator.study
    output = run_output(study, "manual__2")
    (first, *_) = workspace.runs.values()
    assert end_live_runs(study, "manual__2", "/Volumes/another/airflow/runs") == []
    assert end_live_runs(study, "manual__2", output) == [first.url]
    assert end_live_runs(study, "manual__2", output) == []
    assert [run.cancelled for run in workspace.runs.values()] == [True, False, False, False]


@pytest.mark.attack("the trigger", "what upload_job_files returned, rewritten to name another program and study")
def test_a_rewritten_xcom_sends_no_other_program(
    workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.faults.start_s = 600
    operator, context = tried()
    own = dict(context["ti"].files)
    context["ti"].files.update(
        {"entry": "/Volumes/evil.py", "spec": "/Volumes/evil.json", "init_scripts": ["/Volumes/e"]}
    )
    submit_and_die((operator, context), monkeypatch)
    ((_, run),) = workspace.runs.items()
    assert "evil" not in repr(vars(run))
    assert own["entry"] in repr(vars(run))


def test_a_run_that_does_not_end_is_one_card(
    workspace: Workspace, tried: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.faults.start_s = 600
    operator, context = tried()
    submit_and_die((operator, context), monkeypatch)
    with pytest.raises(TaskError, match="was cancelled and still has not ended after 2 s"):
        end_live_runs(operator.study, "manual__1", context["ti"].files["output"], patience_s=2)
