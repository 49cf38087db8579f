"""The paths of a run's files in the workspace, and the path of its table as the cluster reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.targets.databricks.keys.settings import DatabricksSettings


@dataclass(frozen=True)
class RemoteFiles:
    """The paths of a run's files, as the cluster sees them.

    Attributes:
        package: Zip of the package optuna_spark.
        entry: The job's program, jobs/tune_databricks.py.
        init_scripts: The init scripts of each node, in the order in which they run.
        spec: The run's TuningSpec as JSON.
        output: Folder that the run writes to.
        py_files: Further Python files and zips.
        study_copy: The file that holds the study with `database: driver`; None otherwise.
    """

    package: str
    entry: str
    init_scripts: tuple[str, ...]
    spec: str
    output: str
    py_files: tuple[str, ...] = ()
    study_copy: str | None = None


def output_folder(settings: DatabricksSettings, study_name: str, run_folder: str) -> str:
    """The folder that a run writes to."""
    return f"{settings.runs_folder(study_name)}/{run_folder}"


def study_copy_path(settings: DatabricksSettings, study_name: str) -> str:
    """The file that holds the study between two runs, with `database: driver`."""
    return settings.study_copy(study_name)


def run_name(study_name: str, run_id: str) -> str:
    """The name of a run in the workspace."""
    return f"tune {study_name} ({run_id})"


def on_cluster(spec: TuningSpec) -> TuningSpec:
    """The spec with its data path in the form that the reader on the cluster needs.

    Python reads DBFS below /dbfs, Spark as dbfs:/. Spark needs file: in front of workspace files.
    """
    if spec.data is None:
        return spec
    of_spark = spec.distribution == "dataframe"
    if isinstance(spec.data.path, str):
        return with_data(spec, _for_reader(spec.data.path, of_spark=of_spark))
    paths = tuple(_for_reader(path, of_spark=of_spark) for path in spec.data.paths)
    return spec.with_changes(data=dataclasses.replace(spec.data, path=paths))


def _for_reader(path: str, *, of_spark: bool) -> str:
    if of_spark:
        if path.startswith("/dbfs/"):
            path = "dbfs:/" + path.removeprefix("/dbfs/")
        elif path.startswith("/Workspace/"):
            path = f"file:{path}"
    elif path.startswith("dbfs:/Volumes/"):
        path = path.removeprefix("dbfs:")
    elif path.startswith("dbfs:/"):
        path = "/dbfs/" + path.removeprefix("dbfs:/")
    return path


def is_local(path: str) -> bool:
    """Whether a data path is on Airflow's machine, and not one that the cluster can read."""
    return path.startswith("/") and not path.startswith(("/Volumes/", "/Workspace/", "/dbfs/"))


def with_data(spec: TuningSpec, path: str) -> TuningSpec:
    """The spec with another data path."""
    assert spec.data is not None
    return spec.with_changes(data=dataclasses.replace(spec.data, path=path))
