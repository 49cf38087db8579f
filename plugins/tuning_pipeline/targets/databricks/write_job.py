"""`make databricks-job`: writes a study as a Databricks job that needs no Airflow, as JSON and as an asset bundle.

databricks/<study>/job.json         for `databricks jobs create`
databricks/<study>/databricks.yml   for `databricks bundle deploy`
databricks/<study>/files/           the files that both need
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from optuna_spark.errors import TuningError
from tuning_pipeline.study_file.study_file import StudyFile, read_study
from tuning_pipeline.study_file.study_names import study_path
from tuning_pipeline.targets.databricks.keys.kind import check_databricks
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.payload import JOB_RUN_ID, bundle, job_definition
from tuning_pipeline.targets.databricks.payload_check import check_job
from tuning_pipeline.targets.databricks.workspace.init_scripts import init_scripts
from tuning_pipeline.targets.databricks.workspace.paths import (
    RemoteFiles,
    on_cluster,
    output_folder,
    study_copy_path,
    with_data,
)
from tuning_pipeline.targets.databricks.workspace.upload import ENTRY, local_data, passwordless_url, py_files
from tuning_pipeline.targets.package import pack_package

STUDIES = Path(__file__).resolve().parents[4] / "dags" / "studies"
# The folder of a bundle's files in the workspace: https://docs.databricks.com/en/dev-tools/bundles/variables.html
BUNDLE_FILES = "${workspace.file_path}/files"


def write_job(study: StudyFile, target: Path) -> list[Path]:
    """Write the job of a study.

    Args:
        study: The study. Its target may still be standalone.
        target: Folder for the files. Those of an earlier call are replaced.

    Returns:
        All files in the folder.

    Raises:
        TuningError: The study cannot run on Databricks as it is.
    """
    check_databricks(study.settings)
    volume = f"{databricks_settings(study.settings).folder}/jobs/{study.name}"
    storage = passwordless_url(study)
    names = _write_files(study, target / "files", volume)
    documents = {
        "job.json": _job(study, volume, names, storage),
        "databricks.yml": bundle(study.dag_id, _job(study, BUNDLE_FILES, names, storage)),
    }
    (target / "job.json").write_text(json.dumps(documents["job.json"], indent=2) + "\n")
    (target / "databricks.yml").write_text(yaml.safe_dump(documents["databricks.yml"], sort_keys=False, width=120))
    return sorted(path for path in target.rglob("*") if path.is_file())


def _job(study: StudyFile, folder: str, names: dict[str, list[str]], storage: str | None) -> dict[str, Any]:
    settings, spec = databricks_settings(study.settings), study.to_spec("job")
    files = RemoteFiles(
        package=f"{folder}/optuna_spark.zip",
        entry=f"{folder}/{ENTRY.name}",
        init_scripts=tuple(f"{folder}/{name}" for name in names["init"]),
        spec=f"{folder}/spec.json",
        output=output_folder(settings, spec.study_name, f"job-{JOB_RUN_ID}"),
        py_files=tuple(f"{folder}/{name}" for name in names["python"]),
        study_copy=study_copy_path(settings, spec.study_name) if settings.database == "driver" else None,
    )
    job = job_definition(study, spec, files, storage)
    check_job(job)
    return job


def _write_files(study: StudyFile, folder: Path, volume: str) -> dict[str, list[str]]:
    """Write the files that the cluster needs. Returns the names of the init scripts and Python files among them."""
    spec = study.to_spec("job")
    data, scripts = local_data(spec), init_scripts(spec)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    python = py_files(study, folder)
    for file in [ENTRY, *python, *([data] if data else [])]:
        if file.parent != folder:
            shutil.copy(file, folder)
    for name, content in scripts.items():
        (folder / name).write_bytes(content)
    pack_package(folder / "optuna_spark.zip")
    if data is not None:
        spec = with_data(spec, f"{volume}/{data.name}")
    (folder / "spec.json").write_text(on_cluster(spec).to_json() + "\n")
    return {"init": list(scripts), "python": [file.name for file in python]}


def main(arguments: list[str]) -> int:
    """Write the job of a study, given the name of its file, and print how to create the job. Returns the exit code."""
    name, folder = arguments
    try:
        study = read_study(study_path(STUDIES, name))
        target = Path(folder) / study.name
        files = write_job(study, target)
    except TuningError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    volume = f"{databricks_settings(study.settings).folder}/jobs/{study.name}"
    for file in files:
        sys.stdout.write(f"wrote {file}\n")
    sys.stdout.write(
        f"\nAs a job:     databricks fs cp -r --overwrite {target}/files dbfs:{volume}\n"
        f"              databricks jobs create --json @{target}/job.json\n"
        f"As a bundle:  cd {target} && databricks bundle deploy && databricks bundle run {study.dag_id}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
