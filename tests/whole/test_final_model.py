"""A study's final model in the real Airflow: trained after the search, exported with its honest score.

Spark is not what this is about: but for one test the driver runs without it (tests/support/plain_submit.py).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from tests.support.airflow import DagFolder, migrated_home
from tests.support.connections import SPARK, TUNING, set_connection
from tests.support.documents import undescribed
from tests.support.plain_submit import install
from tests.support.servers import spark_environment

XGBOOST = """objective: xgboost
data: {path: /table.csv, label: y, test: 0.25}
xgboost: {num_boost_round: 40, early_stopping_rounds: 3, metric: mae}
search_space:
  max_depth: {type: int, low: 2, high: 5}
  learning_rate: {type: float, low: 0.2, high: 0.6}
model: {name: prices}
trials: 3
tasks: 1
seed: 1
distribution: rdd
retries: 0
"""
OWN = """objective: line:objective
data: {path: /table.csv, label: y, test: 0.25}
search_space: {slope: {type: float, low: 0, high: 4}}
model: {train: "line:train", score: "line:score"}
trials: 3
tasks: 1
seed: 1
distribution: rdd
retries: 0
"""
LINE = """
import numpy as np

def score(slope, table):
    return float(np.mean(np.abs(slope * table["a"].to_numpy() - table["y"].to_numpy())))

def objective(trial, context):
    return score(trial.suggest_float("slope", 0, 4), context.read_table())

def train(params, table):
    return params["slope"]
"""
FILES = {"model.ubj", "model_card.json", "input_example.json", "test_predictions.json", "requirements.txt"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DagFolder:
    migrated_home()
    rng = np.random.default_rng(2)
    a, b = rng.random(400).round(6), rng.random(400).round(6)
    lines = [
        f"{x},{z},{2 * x + z * z + n:.6f}\n" for x, z, n in zip(a, b, 0.05 * rng.standard_normal(400), strict=True)
    ]
    (tmp_path / "table.csv").write_text("a,b,y\n" + "".join(lines))
    folder = DagFolder.create(tmp_path / "dags")
    folder.use(monkeypatch)
    monkeypatch.setenv("TUNING_EXPORTS", str(tmp_path / "exports"))
    monkeypatch.setenv("TUNING_SPARK_ENV", str(spark_environment()))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    set_connection(monkeypatch, TUNING, conn_type="sqlite", host=str(tmp_path / "study.db"))
    return folder


@pytest.fixture
def without_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with socket.create_server(("127.0.0.1", 0)) as master:  # the task looks whether one answers
        set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=master.getsockname()[1])
        yield


def write(folder: DagFolder, text: str, **files: str) -> Path:
    """Write the study; returns the folder of its exports."""
    base = folder.path.parent
    folder.write_study("final", text.replace("/table.csv", str(base / "table.csv")) + f"study: {base.name}\n")
    for name, content in files.items():
        (folder.path / "studies" / f"{name}.py").write_text(content)
    return base / "exports" / base.name


def export_in(exports: Path) -> tuple[dict[str, Any], Path]:
    return json.loads((exports / "latest" / "best_params.json").read_text()), exports / "latest"


def check_model(exports: Path) -> None:
    best, latest = export_in(exports)
    assert {path.name for path in (latest / "model").iterdir()} == FILES
    card = json.loads((latest / "model" / "model_card.json").read_text())
    assert (card["name"], card["trial"], card["params"]) == ("prices", best["trial"], best["params"])
    assert card["rounds"] == best["rounds"] < 40
    assert card["rows"]["training"] + card["rows"]["test"] == 400
    assert best["model"] == {"name": "prices", "path": "model", "rows": card["rows"]}
    assert best["test_values"] == [card["metrics"][0]["test"]]
    assert best["test_gap"] == [pytest.approx(best["test_values"][0] - best["value"])]
    assert f"{best['test_values'][0]:.6g}" in best["score_note"]
    assert not undescribed(best, "best_params.json")
    page = (latest / "report.html").read_text()
    assert best["score_note"] in page
    assert "mae on test rows" in page
    assert "What the final model looks at" in page
    assert "Residuals of the test rows" in page
    assert [path.name for path in exports.iterdir() if path.name.endswith(".model")] == []


@pytest.mark.usefixtures("without_spark")
def test_the_export_has_the_model_and_its_score(folder: DagFolder) -> None:
    exports = write(folder, XGBOOST)
    states = folder.test("tune_final")
    assert set(states.values()) == {"success"}
    assert list(states).index("tune") < list(states).index("train_final_model") or "train_final_model" in states
    check_model(exports)
    first = export_in(exports)[1].resolve()

    # A second run adds trials. Its export has a model of its own, the first one keeps its.
    assert set(folder.test("tune_final", {"mode": "resume"}).values()) == {"success"}
    check_model(exports)
    assert export_in(exports)[1].resolve() != first
    assert {path.name for path in (first / "model").iterdir()} == FILES


@pytest.mark.usefixtures("without_spark")
def test_an_objective_of_ones_own_brings_its_model(folder: DagFolder) -> None:
    exports = write(folder, OWN, line=LINE)
    assert set(folder.test("tune_final").values()) == {"success"}
    best, latest = export_in(exports)
    assert {path.name for path in (latest / "model").iterdir()} == FILES - {"model.ubj", "test_predictions.json"} | {
        "model.joblib"
    }
    assert best["test_values"][0] == pytest.approx(best["value"], rel=0.5)


@pytest.mark.usefixtures("without_spark")
def test_a_model_that_cannot_be_trained_fails_the_run_and_leaves_a_partial_export(
    folder: DagFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    exports = write(folder, OWN, line=LINE.replace('return params["slope"]', "raise RuntimeError('no model today')"))
    states = folder.test("tune_final")
    assert (states["tune"], states["train_final_model"]) == ("success", "failed")
    assert states["export_best_trials"] == "upstream_failed"
    (partial,) = [path for path in exports.iterdir() if path.is_dir()]
    best = json.loads((partial / "best_params.json").read_text())
    assert (best["partial"], best["model"], best["test_values"]) == (True, None, None)
    assert not (partial / "model").exists()
    card = [line.strip("│ ") for line in "".join(capfd.readouterr()).splitlines() if line.startswith("│")]
    text = " ".join(" ".join(card).split())
    assert "line:train failed: RuntimeError" in text
    assert "clear task train_final_model: the trials are kept" in text


@pytest.mark.usefixtures("without_spark")
def test_a_run_that_failed_trains_no_model(folder: DagFolder) -> None:
    write(folder, OWN, line=LINE.replace("def objective(trial, context):", "def objective(trial, context):\n    1 / 0"))
    states = folder.test("tune_final")
    assert (states["tune"], states["train_final_model"]) == ("failed", "upstream_failed")


@pytest.mark.usefixtures("without_spark")
def test_without_a_model_section_there_is_no_such_task_and_the_value_is_called_optimistic(folder: DagFolder) -> None:
    exports = write(folder, XGBOOST.replace("model: {name: prices}\n", "").replace(", test: 0.25", ""))
    states = folder.test("tune_final")
    assert "train_final_model" not in states
    best, latest = export_in(exports)
    assert best["score_note"].startswith("The best value is optimistic: it is the best of 3 trials on the same rows.")
    assert best["score_note"] in (latest / "report.html").read_text()
    assert (best["model"], best["test_values"], best["test_gap"]) == (None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["joblib", "dataframe"])
def test_on_a_spark_cluster(
    distribution: str, folder: DagFolder, spark_cluster: SparkCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=spark_cluster.port)
    monkeypatch.setenv("PATH", f"{REPOSITORY}/init/spark/bin:{os.environ['PATH']}")
    text = XGBOOST.replace("distribution: rdd", f"distribution: {distribution}")
    exports = write(folder, f"{text}spark:\n  executor_memory: 512m\n  conf: {{spark.ui.enabled: false}}\n")
    assert set(folder.test("tune_final").values()) == {"success"}
    check_model(exports)
