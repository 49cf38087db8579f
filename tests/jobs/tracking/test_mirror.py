"""The mirror of trials in MLflow, against a real server: every trial once, with its values, whatever dies."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from optuna_spark import trial_callback
from optuna_spark.driver.run import tune
from optuna_spark.entry.run_spec import run_spec
from optuna_spark.errors import SpecError
from optuna_spark.spec.run_secrets import TrackingSecrets
from optuna_spark.spec.sections import TrackingSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.trial_marks import times_of
from optuna_spark.tracking import mirror
from optuna_spark.tracking.catch_up import CaughtUp, sync
from optuna_spark.tracking.mirror import mirrors
from optuna_spark.tracking.target import tracking_target
from tests.support.mlflow_server import MlflowServer
from tests.support.waiting import wait_until

TOKEN = "token-that-nobody-may-see-7231"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


@pytest.fixture
def spec(request: pytest.FixtureRequest) -> TuningSpec:
    """A run with a study of the test's own, so that all tests can share a server."""
    return TuningSpec(
        request.node.name.replace("[", "-").replace("]", ""), objective="sample_objectives:reports_twice", trials=12,
        tasks=2, distribution="local", run_id="manual__2026.0123abcd", tracking=TrackingSpec("my_mlflow"),
    )  # fmt: skip


def secrets(server: MlflowServer) -> TrackingSecrets:
    return TrackingSecrets(server.uri, password=TOKEN)


def run(spec: TuningSpec, url: str, server: MlflowServer, first: Any = None) -> None:
    """Run the spec; the callback `first` hears of everything before the mirror does, and may hold it up."""
    tune(spec, url, callbacks=[*filter(None, [first]), *mirrors(spec, secrets(server))])


@pytest.fixture(autouse=True)
def callbacks_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's end waits for the callbacks of a test, however slow the machine."""
    monkeypatch.setattr(trial_callback, "CLOSE_S", 300)


def trials_of(spec: TuningSpec, url: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=spec.study_name, storage=url).get_trials()


def catch_up(spec: TuningSpec, url: str, server: MlflowServer, patience_s: float = 60) -> CaughtUp:
    target = tracking_target(spec, secrets(server))
    assert target is not None
    return sync(trials_of(spec, url), target, first=spec.run_id, patience_s=patience_s)


def client(server: MlflowServer) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=server.uri)


def runs(server: MlflowServer, study: str, kind: str) -> list[Any]:
    found = client(server)
    experiment = found.get_experiment_by_name(study)
    wanted = f"tags.`optuna_spark.kind` = '{kind}'"
    return list(found.search_runs([experiment.experiment_id], wanted, max_results=1_000)) if experiment else []


def assert_mirrored(spec: TuningSpec, url: str, server: MlflowServer) -> None:
    """One parent, and a child for each trial, which says the same as the trial."""
    (parent,) = runs(server, spec.study_name, "run")
    assert parent.data.tags["optuna_spark.run_id"] == spec.run_id
    assert parent.info.status == "FINISHED"
    children = {int(child.data.tags["optuna.trial_number"]): child for child in runs(server, spec.study_name, "trial")}
    trials = {trial.number: trial for trial in trials_of(spec, url)}
    assert len(runs(server, spec.study_name, "trial")) == len(children) == len(trials)
    for number, child in children.items():
        trial = trials[number]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["optuna.state"] == trial.state.name
        assert child.data.params == {name: str(value) for name, value in trial.params.items()}
        start, end = times_of(trial)
        assert start is not None
        assert end is not None
        assert (child.info.start_time, child.info.end_time) == (ms(start), ms(end))
        assert child.data.metrics["duration_s"] == (ms(end) - ms(start)) / 1000
        if trial.state == TrialState.COMPLETE:
            assert child.info.status == "FINISHED"
            assert child.data.metrics["value"] == trial.value
        history = client(server).get_metric_history(child.info.run_id, "intermediate_value")
        assert {point.step: point.value for point in history} == trial.intermediate_values
        assert len(history) == len(trial.intermediate_values)


def ms(moment: Any) -> int:
    return int(moment.timestamp() * 1000)


def test_fifty_trials_are_there_with_their_values(spec: TuningSpec, url: str, mlflow_server: MlflowServer) -> None:
    spec = spec.with_changes(trials=50)
    run(spec, url, mlflow_server, AtTrial({50: lambda: wait_for_children(spec, mlflow_server, 49)}))
    caught = catch_up(spec, url, mlflow_server)
    assert caught.there == 50
    assert caught.written <= 2  # one may have been begun, and the last one may have come too late
    assert_mirrored(spec, url, mlflow_server)
    assert catch_up(spec, url, mlflow_server) == CaughtUp(written=0, there=50, missing=0)


def wait_for_children(spec: TuningSpec, server: MlflowServer, number: int) -> None:
    wait_until(lambda: len(runs(server, spec.study_name, "trial")) >= number, f"{number} children")


class AtTrial:
    """A callback that does something once so many trials have ended."""

    def __init__(self, actions: dict[int, Any]) -> None:
        self._actions, self._ended = actions, 0

    def trial_started(self, number: int) -> None: ...

    def trial_reported(self, number: int, step: int, value: float) -> None: ...

    def trial_ended(self, trial: FrozenTrial) -> None:
        self._ended += 1
        self._actions.get(self._ended, lambda: None)()

    def run_ended(self, reason: str | None) -> None: ...


def test_a_server_that_is_killed_and_comes_back_gets_every_trial_once(
    spec: TuningSpec, url: str, mlflow_server: MlflowServer
) -> None:
    spec = spec.with_changes(trials=30)

    def kill() -> None:
        wait_for_children(spec, mlflow_server, 1)
        mlflow_server.kill()

    def wait_for_most() -> None:
        wait_for_children(spec, mlflow_server, 25)  # without a catch-up

    run(spec, url, mlflow_server, AtTrial({8: kill, 16: mlflow_server.start, 30: wait_for_most}))
    assert catch_up(spec, url, mlflow_server).missing == 0
    assert_mirrored(spec, url, mlflow_server)


def test_a_server_that_is_down_costs_one_line_and_is_mended_later(
    spec: TuningSpec, url: str, mlflow_server: MlflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    mlflow_server.kill()
    try:
        run(spec, url, mlflow_server, AtTrial({spec.trials: lambda: wait_until(warnings)}))
        caught = catch_up(spec, url, mlflow_server, patience_s=0.1)
    finally:
        mlflow_server.start()
    assert len(trials_of(spec, url)) == spec.trials
    (warning,) = warnings()
    assert warning.startswith(f"[tuning] MLflow at {mlflow_server.uri} does not take trials (")
    assert (caught.there, caught.missing) == (0, spec.trials)
    assert caught.problem
    assert catch_up(spec, url, mlflow_server).written == spec.trials
    assert_mirrored(spec, url, mlflow_server)


def test_a_retried_run_goes_on_in_the_same_mlflow_run(spec: TuningSpec, url: str, mlflow_server: MlflowServer) -> None:
    run(spec, url, mlflow_server)
    longer = spec.with_changes(trials=20)
    run(longer, url, mlflow_server, AtTrial({8: lambda: wait_for_children(spec, mlflow_server, 1)}))
    assert catch_up(spec, url, mlflow_server).there == 20
    assert_mirrored(spec, url, mlflow_server)


def test_what_a_lost_answer_left_double_or_half_is_put_right(
    spec: TuningSpec, url: str, mlflow_server: MlflowServer
) -> None:
    run(spec, url, mlflow_server)
    catch_up(spec, url, mlflow_server)
    (parent,) = runs(mlflow_server, spec.study_name, "run")
    tags = dict(runs(mlflow_server, spec.study_name, "trial")[0].data.tags)
    known, experiment = client(mlflow_server), parent.info.experiment_id
    known.create_run(experiment, tags=tags)  # a child again, still running
    other = known.create_run(experiment, tags=dict(parent.data.tags))  # a parent again, with a child
    known.create_run(experiment, tags=tags | {"mlflow.parentRunId": other.info.run_id})
    known.create_run(experiment, tags=tags | {"optuna.trial_number": "999"})  # of no trial
    assert catch_up(spec, url, mlflow_server).written == 0
    assert_mirrored(spec, url, mlflow_server)


def test_each_run_of_a_study_has_its_own_parent_and_an_earlier_one_is_mended_by_a_later(
    spec: TuningSpec, url: str, mlflow_server: MlflowServer
) -> None:
    tune(spec, url)  # as with a server that was down for the whole run
    later = spec.with_changes(run_id="later.0123abcd")
    run(later, url, mlflow_server)
    caught = catch_up(later, url, mlflow_server)
    assert (caught.there, caught.missing) == (24, 0)
    parents = {run.data.tags["optuna_spark.run_id"]: run for run in runs(mlflow_server, spec.study_name, "run")}
    assert set(parents) == {spec.run_id, later.run_id}
    assert len(runs(mlflow_server, spec.study_name, "trial")) == 24


def test_trials_that_come_faster_than_mlflow_takes_them_are_left_to_the_catch_up(
    spec: TuningSpec, url: str, mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "QUEUE", 1)
    run(spec, url, mlflow_server)
    assert catch_up(spec, url, mlflow_server).there == spec.trials
    assert_mirrored(spec, url, mlflow_server)


def test_workers_of_coordination_database_get_no_login_and_the_catch_up_writes_all(
    spec: TuningSpec, url: str, mlflow_server: MlflowServer
) -> None:
    spec = spec.with_changes(coordination="database")
    assert mirrors(spec, secrets(mlflow_server)) == []
    run(spec, url, mlflow_server)
    assert catch_up(spec, url, mlflow_server).written == spec.trials
    assert_mirrored(spec, url, mlflow_server)


def test_failed_and_pruned_trials_are_there_too(spec: TuningSpec, url: str, mlflow_server: MlflowServer) -> None:
    study = optuna.create_study(study_name=spec.study_name, storage=url)
    tune(spec.with_changes(trials=2), url)
    for state in (TrialState.PRUNED, TrialState.FAIL):
        study.add_trial(
            optuna.create_trial(
                state=state,
                value=1.0 if state == TrialState.PRUNED else None,
                system_attrs={"optuna_spark:run": {"run_id": spec.run_id}},
            )
        )
    assert catch_up(spec, url, mlflow_server).there == 4
    found = {c.data.tags["optuna.state"]: c.info.status for c in runs(mlflow_server, spec.study_name, "trial")}
    assert found == {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def test_the_token_is_in_no_argv_environment_or_log_of_any_process(
    spec: TuningSpec, url: str, mlflow_server: MlflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bytes] = []

    def look() -> None:
        seen.extend(
            path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if "tracking_process" in text(path)
        )
        mine = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if "tracking_process" in text(path)]
        seen.extend((folder / "environ").read_bytes() for folder in mine)

    caplog.set_level(logging.DEBUG)
    run(spec, url, mlflow_server, AtTrial({3: look}))
    assert seen
    assert not [found for found in seen if TOKEN.encode() in found]
    assert TOKEN not in caplog.text
    assert TOKEN not in os.environ.values()
    assert TOKEN not in repr(mirrors(spec, secrets(mlflow_server))[0]._target)  # type: ignore[attr-defined]
    assert TOKEN not in spec.to_json()


def text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # the process has ended
        return ""


def test_a_run_that_does_not_know_the_servers_address_says_so_before_any_trial(spec: TuningSpec, url: str) -> None:
    with pytest.raises(SpecError, match="'my_mlflow' is an Airflow connection: start the run from Airflow"):
        run_spec(spec, url, None, callbacks=mirrors(spec, None))
