"""A study as a Databricks job without Airflow: JSON, bundle and the files they name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from optuna_spark.spec.tuning import TuningSpec
from tests.support.databricks_check import refuse_bad_job
from tuning_pipeline.study_file.study_file import StudyFile, read_study
from tuning_pipeline.targets.databricks.write_job import STUDIES, main, write_job


@pytest.fixture
def written(tmp_path: Path) -> StudyFile:
    study = read_study(STUDIES / "wine_quality.yaml")
    write_job(study, tmp_path)
    return study


def test_the_job_names_only_files_that_were_written(written: StudyFile, tmp_path: Path) -> None:
    job = json.loads((tmp_path / "job.json").read_text())
    refuse_bad_job(job)
    (task,) = job["tasks"]
    named = [task["spark_python_task"]["python_file"], task["spark_python_task"]["parameters"][0]]
    named += [script["volumes"]["destination"] for script in task["new_cluster"]["init_scripts"]]
    files = {path.name for path in (tmp_path / "files").iterdir()}
    assert {Path(name).name for name in named} | {"spec.json"} == files
    assert all(name.startswith("/Volumes/main/default/tuning/jobs/wine_quality/") for name in named)
    assert TuningSpec.from_json((tmp_path / "files" / "spec.json").read_text()) == written.to_spec("job")


def test_each_run_of_the_job_has_an_id_of_its_own(written: StudyFile, tmp_path: Path) -> None:
    given = json.loads((tmp_path / "job.json").read_text())["tasks"][0]["spark_python_task"]["parameters"]
    assert given[-2:] == ["--run-id", "{{job.run_id}}"]
    assert given[given.index("--output") + 1].endswith("/runs/wine_quality/job-{{job.run_id}}")


def test_the_bundle_is_the_same_job_on_the_bundles_own_files(written: StudyFile, tmp_path: Path) -> None:
    document = yaml.safe_load((tmp_path / "databricks.yml").read_text())
    job = document["resources"]["jobs"]["tune_wine_quality"]
    refuse_bad_job(job)
    volume, own = "/Volumes/main/default/tuning/jobs/wine_quality", "${workspace.file_path}/files"
    sent = json.loads((tmp_path / "job.json").read_text().replace(volume, own))
    scripts = sent["tasks"][0]["new_cluster"]["init_scripts"]
    sent["tasks"][0]["new_cluster"]["init_scripts"] = [{"workspace": script["volumes"]} for script in scripts]
    assert job == sent


def test_nothing_secret_and_nothing_of_this_machine_is_written(written: StudyFile, tmp_path: Path) -> None:
    for name in ("job.json", "databricks.yml", "files/spec.json"):
        assert str(STUDIES.parents[1]) not in (tmp_path / name).read_text()


def test_the_command_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wine_quality", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"databricks jobs create --json @{tmp_path}/wine_quality/job.json" in out
    assert "databricks bundle deploy" in out


def test_a_study_that_says_nothing_about_databricks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quadratic", str(tmp_path)]) == 1
    assert "databricks.files is required" in capsys.readouterr().err
    assert main(["none", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: dags/studies/none: there is no such study file; there is ")
