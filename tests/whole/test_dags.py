"""Every study file is a DAG; a broken one is an import error and takes no other with it."""

from __future__ import annotations

import itertools
import os
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import pendulum
import pytest
from airflow.sdk import CronTriggerTimetable

from init.local.layout import REPOSITORY
from tests.support.airflow import DAGS, QUICK_STUDY, DagFolder, migrated_home
from tests.support.programs import run_program

CHAIN = ["provision_database", "prepare_study", "tune", "export_best_trials"]
BROKEN = "objective: quadratic\ntrails: 5\n"


@pytest.fixture
def folder(tmp_path: Path) -> DagFolder:
    return DagFolder.create(tmp_path / "dags", good=QUICK_STUDY, other=QUICK_STUDY)


def test_the_repositorys_dags_load_without_a_word() -> None:
    bag = DagFolder(DAGS).bag()
    assert bag.import_errors == {}
    assert bag.captured_warnings == {}
    studies = {f"tune_{path.stem}" for path in (DAGS / "studies").glob("*.yaml")}
    assert set(bag.dags) == studies | {"use_best_params"}


def test_a_study_is_a_chain_of_four_tasks(folder: DagFolder) -> None:
    dag = folder.bag().dags["tune_good"]
    assert [task.task_id for task in dag.topological_sort()] == CHAIN
    for before, after in itertools.pairwise(CHAIN):
        assert dag.get_task(before).downstream_task_ids == {after}


def test_a_dag_takes_its_settings_from_the_study_file(folder: DagFolder) -> None:
    folder.write_study(
        "full",
        "objective: quadratic\nschedule: '0 3 * * 1'\nstart_date: 2026-01-31\nowner: ann\ntags: [a]\nretries: 5\n"
        "retry_delay_s: 7\nexecution_timeout_s: 600\ndescription: A study\n",
    )
    dag = folder.bag().dags["tune_full"]
    assert dag.schedule == CronTriggerTimetable("0 3 * * 1", timezone=pendulum.timezone("UTC"))
    assert str(dag.start_date) == "2026-01-31 00:00:00+00:00"
    assert (dag.owner, dag.description) == ("ann", "A study")
    assert dag.tags == {"a", "tuning", "quadratic"}
    assert not dag.catchup
    assert dag.max_active_runs == 1
    tune = dag.get_task("tune")
    assert (tune.retries, tune.retry_delay) == (5, timedelta(seconds=7))
    assert tune.retry_exponential_backoff
    assert tune.execution_timeout == timedelta(minutes=10)
    assert dag.dagrun_timeout == timedelta(hours=2)
    assert dag.doc_md.startswith("### Tune study full\n\n- **Objective**: `quadratic`, minimize\n- **Data**: `none`\n")
    assert "- **Schedule**: `0 3 * * 1`\n" in dag.doc_md
    assert "| `x` | float | -10 to 10 |\n" in dag.doc_md


def test_a_broken_study_is_an_import_error_and_its_neighbours_stay(folder: DagFolder) -> None:
    folder.write_study("broken", BROKEN)
    folder.write_study("late", "schedule: every day\n")
    bag = folder.bag()
    assert set(bag.dags) == {"tune_good", "tune_other", "use_best_params"}
    (file,) = bag.import_errors
    assert Path(file).name == "study_errors.py"
    error = bag.import_errors[file]
    assert "dags/studies/broken.yaml: unknown key 'trails' (did you mean 'trials'?); valid keys: " in error
    assert "dags/studies/late.yaml: schedule: must be a cron expression" in error


# Code of an objective that says both words, and that fails where its packages are not installed.
HELPER = "# written where airflow runs a dag\nimport a_package_of_the_workers\n"
OBJECTIVE = "import helper\n\n\ndef objective(trial):\n    return 1.0\n"


def write_code(folder: DagFolder, place: str = "studies") -> None:
    studies = folder.path / place
    (studies / "pack").mkdir(parents=True)
    (studies / "mine.py").write_text(OBJECTIVE)
    (studies / "helper.py").write_text(f"{HELPER}import pack\n")
    (studies / "pack" / "__init__.py").write_text("")
    (studies / "pack" / "code.py").write_text(HELPER)
    (studies / "mine.yaml").write_text(QUICK_STUDY.replace("quadratic", "mine:objective"))


def test_airflow_reads_no_code_beside_study_files_as_dags(folder: DagFolder) -> None:
    write_code(folder)
    with zipfile.ZipFile(folder.path / "studies" / "code.zip", "w") as archive:
        archive.writestr("helper.py", HELPER)
    bag = folder.bag()
    assert bag.import_errors == {}
    assert "tune_mine" in bag.dags


@pytest.mark.parametrize(("safe_mode", "syntax"), [("True", "glob"), ("False", "regexp")])
def test_the_dag_processor_reads_none_of_it_however_it_is_set_up(
    folder: DagFolder, monkeypatch: pytest.MonkeyPatch, safe_mode: str, syntax: str
) -> None:
    migrated_home()
    write_code(folder)
    folder.use(monkeypatch)
    monkeypatch.setenv("AIRFLOW__CORE__DAG_DISCOVERY_SAFE_MODE", safe_mode)
    monkeypatch.setenv("AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX", syntax)
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import select

    path = os.pathsep.join(str(REPOSITORY / name) for name in ("jobs", "plugins"))
    command = [sys.executable, "-m", "airflow", "dag-processor", "--num-runs", "1", "--bundle-name", "dags-folder"]
    run_program(command, env={**os.environ, "PYTHONPATH": path})
    with create_session() as session:
        errors = {str(e.filename): str(e.stacktrace) for e in session.scalars(select(ParseImportError))}
    assert [errors[file] for file in errors if file.startswith("studies/")] == []


def test_code_that_airflow_would_read_is_told_with_the_line_that_hides_it(
    folder: DagFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the user's own, with no .airflowignore, as beside the wheel."""
    folder.use(monkeypatch)
    ignore = folder.path / ".airflowignore"
    ignore.unlink()
    write_code(folder, "tuning/ours")
    (folder.path / "study_errors.py").unlink()
    (folder.path / "errors.py").write_text(
        "from tuning_pipeline.dags import report_broken_studies  # airflow dag\n"
        f"report_broken_studies({str(folder.path / 'tuning' / 'ours')!r})\n"
    )
    errors = folder.bag().import_errors
    assert {Path(file).name for file in errors} == {"errors.py", "helper.py", "code.py"}
    said = errors[str(folder.path / "errors.py")]
    for line in ("tuning/ours/helper.py", "tuning/ours/pack/"):
        told = f"{line}: Airflow takes this module of an objective for a DAG file: add the line {line} to {ignore}, or"
        assert told in said
        with ignore.open("a") as file:
            file.write(f"{line}\n")
    assert "mine.py" not in said  # it says none of the words
    assert folder.bag().import_errors == {}


def test_the_scheduler_keeps_the_neighbours_of_a_broken_study(
    folder: DagFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the DAG processor writes: Airflow hides every DAG of a file with an import error."""
    migrated_home()
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import select

    folder.use(monkeypatch)
    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]  # Airflow left it without

    def parse() -> tuple[set[str], dict[str, str]]:
        bag = BundleDagBag(str(folder.path), bundle_path=folder.path, bundle_name="dags-folder")
        with create_session() as session:
            sync_bag_to_db(bag, "dags-folder", None, session=session)
        with create_session() as session:
            alive = session.scalars(select(DagModel.dag_id).where(~DagModel.is_stale, ~DagModel.has_import_errors))
            errors = {str(e.filename): str(e.stacktrace) for e in session.scalars(select(ParseImportError))}
            return set(alive), errors

    folder.write_study("broken", BROKEN)
    alive, errors = parse()
    assert {"tune_good", "tune_other"} <= alive
    assert set(errors) == {"study_errors.py"}
    assert "studies/broken.yaml: unknown key 'trails'" in errors["study_errors.py"]

    folder.write_study("broken", QUICK_STUDY)
    alive, errors = parse()
    assert "tune_broken" in alive
    assert errors == {}


def test_no_secret_is_a_template_field_or_a_param(folder: DagFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TUNING_DB", "mysql://tuning:hush-hush@h/d")
    dag = folder.bag().dags["tune_good"]
    from airflow.serialization.serialized_objects import DagSerialization

    assert "hush-hush" not in str(DagSerialization.to_dict(dag))


def test_the_second_dag_is_scheduled_by_the_best_parameters() -> None:
    dag = DagFolder(DAGS).bag().dags["use_best_params"]
    assert dag.schedule.name == "best_params_diabetes"
    publisher = DagFolder(DAGS).bag().dags["tune_diabetes"].get_task("export_best_trials")
    assert [asset.name for asset in publisher.outlets] == ["best_params_diabetes"]
