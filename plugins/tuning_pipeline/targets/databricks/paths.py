"""Where the files of a run lie, and how the cluster's readers name its table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.study_file.databricks import DatabricksSettings


@dataclass(frozen=True)
class RemoteFiles:
    """Where the files of a run lie, as the cluster sees them.

    Attributes:
        package: Zip of the optuna_spark package.
        entry: jobs/tune_databricks.py.
        init_scripts: What makes each node ready, in this order.
        spec: The run's TuningSpec as JSON.
        output: Folder the run writes to.
        py_files: Further Python files and zips.
        study_copy: The study as a file (database driver), else None.
    """

    package: str
    entry: str
    init_scripts: tuple[str, ...]
    spec: str
    output: str
    py_files: tuple[str, ...] = ()
    study_copy: str | None = None


def output_folder(settings: DatabricksSettings, study_name: str, run_folder: str) -> str:
    """Where a run leaves what it has to say."""
    return f"{settings.folder}/runs/{study_name}/{run_folder}"


def study_copy_path(settings: DatabricksSettings, study_name: str) -> str:
    """The file that is the study between two runs with `database: driver`."""
    return f"{settings.folder}/studies/{study_name}/study.db"


def run_name(study_name: str, run_id: str) -> str:
    """What the workspace shows as the run's name."""
    return f"tune {study_name} ({run_id})"


def on_cluster(spec: TuningSpec) -> TuningSpec:
    """The spec with its data path as the cluster's readers take it.

    Python reads DBFS below /dbfs, Spark as dbfs:/; Spark reads workspace files with file: in front.
    """
    if spec.data is None:
        return spec
    path = spec.data.path
    if spec.distribution == "dataframe":
        if path.startswith("/dbfs/"):
            path = "dbfs:/" + path.removeprefix("/dbfs/")
        elif path.startswith("/Workspace/"):
            path = f"file:{path}"
    elif path.startswith("dbfs:/Volumes/"):
        path = path.removeprefix("dbfs:")
    elif path.startswith("dbfs:/"):
        path = "/dbfs/" + path.removeprefix("dbfs:/")
    return with_data(spec, path)


def is_local(path: str) -> bool:
    """Whether a data path is a file on Airflow's machine, and not one the cluster sees itself."""
    return path.startswith("/") and not path.startswith(("/Volumes/", "/Workspace/", "/dbfs/"))


def with_data(spec: TuningSpec, path: str) -> TuningSpec:
    """The spec with its table at another place."""
    assert spec.data is not None
    return spec.with_changes(data=dataclasses.replace(spec.data, path=path))
