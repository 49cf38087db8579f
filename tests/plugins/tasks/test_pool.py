"""The log names who holds the pool that the next task needs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator

import pytest

from tests.support.airflow import QUICK_STUDY
from tests.support.pages_server import Server, pages_server
from tuning_pipeline.tasks.pool import log_holders

# Their own in each session: the tests' Airflow keeps its runs.
BUSY, IDLE, APART = (f"{name}{uuid.uuid4().hex[:8]}" for name in ("busy", "idle", "apart"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    more = {BUSY: "study: busy\n", IDLE: "study: idle\n", APART: "study: apart\npool: own_pool\n"}
    files = {name: QUICK_STUDY + text for name, text in more.items()}
    with pages_server(tmp_path_factory.mktemp("pool"), **files) as found:
        for name in files:
            begun = "success" if name == IDLE else "running"
            for run_id, state in (("ended", "success"), ("begun", begun)):
                assert found.trigger(f"tune_{name}", run_id).status_code == 200
                found.is_now(run_id, state, f"tune_{name}", tune=state)
        (found.folder.path / "studies" / "broken.yaml").write_text("trials: many\n")
        yield found


# A task asks as Airflow's tasks do. The name in the file is replaced.
ASKS = """
from pathlib import Path
from airflow.sdk import dag, get_current_context, task
from tuning_pipeline.study_file.study_file import read_study
from tuning_pipeline.tasks.pool import log_holders

@dag(dag_id="asks_NAME", schedule=None)
def asks():
    @task
    def ask():
        study = read_study(Path(__file__).parent / "studies" / "NAME.yaml")
        log_holders(study, ("tune",), get_current_context()["ti"])
    ask()

asks()
"""


def told(server: Server, name: str, caplog: pytest.LogCaptureFixture) -> str:
    """What a task of the study logs."""
    (server.folder.path / f"asks_{name}.py").write_text(ASKS.replace("NAME", name))
    with caplog.at_level(logging.INFO):
        assert server.folder.test(f"asks_{name}") == {"ask": "success"}
    return "\n".join(r.getMessage() for r in caplog.records if r.name == log_holders.__module__)


def test_runs_of_other_studies_that_hold_the_pool_are_named(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    assert told(server, server.name, caplog) == (
        f"[tuning] Slots of pool tuning_spark are held by run begun of tune_{BUSY}. Where none is left, task tune is"
        " scheduled, and begins when one is free."
    )


def test_nothing_is_said_of_a_pool_that_nobody_else_holds(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    assert told(server, BUSY, caplog) == ""
