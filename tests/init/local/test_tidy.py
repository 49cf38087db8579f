"""What Airflow keeps of old runs can go, and nothing wrong is published afterwards."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from init.local import airflow
from init.local.errors import SetupError
from init.local.layout import Layout
from init.local.tidy import remove_before, tidy
from tests.support.programs import run_program
from tests.support.servers import scratch_folder
from tests.support.site import checkout, environment, migrate

# The whole chain but for the cluster: its task `tune` is one trial, with the value that the test says.
CHAIN = """
import os
from pathlib import Path

from airflow.sdk import DAG, chain, task
from tuning_pipeline.tasks import steps as tasks
from tuning_pipeline.dag.form import form_params
from tuning_pipeline.study_file.study_file import read_study

study = read_study(Path(__file__).parent / "wanted" / "best.yaml")


@task
def tune():
    import optuna
    from optuna_spark.storage.optuna_storage import create_storage

    run = tasks.run_of(study)
    stored = optuna.load_study(study_name="best", storage=create_storage(run.storage_url()))
    value, space = float(os.environ["VALUE"]), {"x": optuna.distributions.FloatDistribution(-10, 10)}
    made = optuna.create_trial(value=value, params={"x": value}, distributions=space, user_attrs={"run_id": run.key})
    stored.add_trial(made)


with DAG("publishing", params=form_params(study)):
    chain(
        tasks.provision_database(study),
        tasks.prepare_study(study),
        tune(),
        tasks.export_best_trials(study),
    )
"""


@pytest.fixture
def layout() -> Iterator[Layout]:
    """A checkout whose Airflow has its database, and a study in SQLite."""
    with scratch_folder() as folder:
        found = checkout(folder, {})
        (folder / "dags" / "publishing.py").write_text(CHAIN)
        (folder / "dags" / "wanted").mkdir()
        (folder / "dags" / "wanted" / "best.yaml").write_text("retries: 0\nretune: {publish: better}\n")
        migrate(found, variables(found))
        yield found


def variables(layout: Layout) -> dict[str, str]:
    return environment(layout, airflow.connections(layout, None, 7077, {"AIRFLOW__CORE__FERNET_KEY": ""}))


def run(layout: Layout, value: float) -> None:
    command: list[str | Path] = [airflow.program(layout), "dags", "test", "publishing"]
    run_program(command, env=variables(layout) | {"VALUE": str(value)}, together=True)


def published(layout: Layout) -> list[float]:
    """The values of the asset events that Airflow has."""
    database = sqlite3.connect(layout.airflow_home / "airflow.db")
    try:
        rows = database.execute("SELECT extra FROM asset_event ORDER BY id").fetchall()
    finally:
        database.close()
    return [json.loads(extra)["value"] for (extra,) in rows]


@pytest.mark.slow
def test_after_the_events_were_cleaned_only_what_is_better_is_published(layout: Layout) -> None:
    run(layout, 1.0)
    assert published(layout) == [1.0]
    log = next((layout.airflow_home / "logs").rglob("*.log"), None)
    remove_before(layout, datetime.now(UTC) + timedelta(seconds=1))
    assert published(layout) == []
    assert log is None or not log.exists()
    run(layout, 2.0)
    assert published(layout) == []
    run(layout, 0.5)
    assert published(layout) == [0.5]


def test_days_are_a_whole_number_of_at_least_one(tmp_path: Path) -> None:
    for days in ("0", "-1", "ten", "", "1.5", "99999999999"):
        with pytest.raises(SetupError, match=r"DAYS must be a whole number from 1 to 3650, got "):
            tidy(Layout(tmp_path), days)


def test_without_an_airflow_there_is_nothing_to_remove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tidy(Layout(tmp_path), "30")
    assert capsys.readouterr().out == "== Airflow has kept nothing here yet\n"


@pytest.mark.slow
def test_newer_logs_stay(layout: Layout) -> None:
    logs = layout.airflow_home / "logs" / "dag_id=d"
    for name, days in (("old", 40), ("new", 20)):
        file = logs / f"run_id={name}" / "attempt=1.log"
        file.parent.mkdir(parents=True)
        file.write_text("text")
        then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(file, (then, then))
    tidy(layout, "30")
    assert sorted(folder.name for folder in logs.iterdir()) == ["run_id=new"]
