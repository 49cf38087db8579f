"""Where a run stands reaches a real StatsD listener, by Airflow's own settings for metrics."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from optuna_spark.driver.progress import PROGRESS_VARIABLE, Snapshot, write_progress
from tests.support.airflow import migrated_home
from tests.support.programs import run_program

# As Airflow's task runner: set the metrics up, then run the task, in which a driver says where its run stands.
TASK = """
import sys
from pathlib import Path
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from tuning_pipeline.targets.standalone.metrics import trial_metrics
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
with trial_metrics(sys.argv[1], Path(sys.argv[2])):
    pass
"""


@pytest.fixture
def listener() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(60)
    return listener


def received(listener: socket.socket, count: int) -> dict[str, str]:
    """The next gauges of studies, by name."""
    gauges: dict[str, str] = {}
    with listener:
        while len(gauges) < count:
            for line in listener.recv(65_535).decode().splitlines():
                name, _, value = line.partition(":")
                if name.startswith("airflow.tuning."):  # Airflow sends its own as well
                    gauges[name] = value
    return gauges


@pytest.mark.skipif(importlib.util.find_spec("statsd") is None, reason="statsd is not installed: run `make setup`")
def test_a_statsd_listener_gets_the_gauges_of_a_study(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrated_home()
    file = tmp_path / "progress.json"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(file))
    write_progress(Snapshot(100, 12, 3, 2, elapsed_s=4.0, best_value=0.25, best_number=7, pruned=5))
    paths = os.pathsep.join([str(REPOSITORY / "jobs"), str(REPOSITORY / "plugins"), os.environ.get("PYTHONPATH", "")])
    metrics = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(listener.getsockname()[1])}
    env = os.environ | {f"AIRFLOW__METRICS__{name}": value for name, value in metrics.items()} | {"PYTHONPATH": paths}
    run_program([sys.executable, "-c", TASK, "wine.v2", str(file)], env=env)
    assert received(listener, 6) == {
        "airflow.tuning.wine__v2.trials_finished": "12|g",
        "airflow.tuning.wine__v2.trials_failed": "3|g",
        "airflow.tuning.wine__v2.trials_pruned": "5|g",
        "airflow.tuning.wine__v2.trials_running": "2|g",
        "airflow.tuning.wine__v2.trials_per_second": "3.0|g",
        "airflow.tuning.wine__v2.best_value": "0.25|g",
    }


def test_the_file_is_whole_at_any_moment_and_its_loss_hurts_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "folder" / "progress.json"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(file))
    write_progress(Snapshot(1, 0, 0, 1, elapsed_s=0.0))  # its folder is gone
    file.parent.mkdir()
    write_progress(Snapshot(1, 0, 0, 1, elapsed_s=0.0))
    assert json.loads(file.read_text())["running"] == 1
    assert [one.name for one in file.parent.iterdir()] == ["progress.json"]
