"""Uploads the files of a run to a Databricks workspace."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna_spark.database.tls import TlsSettings
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.database.connections import database_connection, require_connection, storage_url, tls_settings
from tuning_pipeline.exports.folders.paths import folder_name
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.retune.first_tries import with_first_tries
from tuning_pipeline.study_file.own_code import shown_code
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.workspace.access import PURPOSE, RemoteFolders, open_workspace, readable_errors
from tuning_pipeline.targets.databricks.workspace.init_scripts import init_scripts
from tuning_pipeline.targets.databricks.workspace.paths import (
    RemoteFiles,
    is_local,
    on_cluster,
    output_folder,
    study_copy_path,
    with_data,
)
from tuning_pipeline.targets.package import cluster_file, code_of, pack_package, ship

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)

ENTRY = cluster_file("jobs/tune_databricks.py")


def upload_job_files(study: StudyFile, run_id: str) -> dict[str, Any]:
    """Send the files that a run needs. Files that exist already are not sent again.

    Returns:
        The fields of a RemoteFiles.

    Raises:
        TaskError: A file is missing on this machine, or the workspace refuses one.
    """
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    settings, spec = databricks_settings(study.settings), study.to_spec(run_id)
    spec = with_first_tries(spec, study)
    with readable_errors(connection):
        folders = RemoteFolders(open_workspace(connection))
        with tempfile.TemporaryDirectory() as scratch:
            extra = py_files(study, Path(scratch))
            package = pack_package(Path(scratch) / "optuna_spark.zip")
            code = f"{settings.folder}/code"
            files = RemoteFiles(
                package=folders.store_file(code, package),
                entry=folders.store_file(f"{settings.scripts_folder}/code", ENTRY),
                init_scripts=tuple(
                    folders.store(f"{settings.scripts_folder}/code", name, content)
                    for name, content in init_scripts(spec).items()
                ),
                spec=_store_spec(folders, settings.folder, spec),
                output=run_output(study, run_id),
                py_files=tuple(folders.store_file(code, file) for file in extra),
                study_copy=study_copy_path(settings, spec.study_name) if settings.database == "driver" else None,
            )
    return dataclasses.asdict(files)


def run_output(study: StudyFile, run_id: str) -> str:
    """The folder that a run writes to."""
    return output_folder(databricks_settings(study.settings), study.settings.study, folder_name(run_id))


def upload_spec(study: StudyFile, spec: TuningSpec) -> str:
    """Send another spec, to go with the files that `upload_job_files` has sent.

    Returns:
        The path of the spec.

    Raises:
        TaskError: The table is missing on this machine, or the workspace refuses a file.
    """
    connection = require_connection(study.settings.connections.databricks, PURPOSE)
    with readable_errors(connection):
        return _store_spec(RemoteFolders(open_workspace(connection)), databricks_settings(study.settings).folder, spec)


def _store_spec(folders: RemoteFolders, base: str, spec: TuningSpec) -> str:
    data = local_data(spec)
    if data is not None:
        spec = with_data(spec, folders.store_file(f"{base}/data", data))
    return folders.store(f"{base}/specs", "spec.json", on_cluster(spec).to_json().encode())


def local_data(spec: TuningSpec) -> Path | None:
    """The table's file if it is on this machine; None if the cluster reads it itself.

    Raises:
        TaskError: There is no such file.
    """
    if spec.data is None or not any(map(is_local, spec.data.paths)):
        return None
    file = Path(spec.data.location)
    if file.is_file():
        return file
    raise TaskError(
        Failure(
            what=f"data.path {file} is no file on this machine",
            next="Correct it, or name a path the cluster sees: /Volumes/..., /Workspace/..., /dbfs/... or a cloud URL.",
        )
    )


def py_files(study: StudyFile, scratch: Path) -> list[Path]:
    """The Python files that the workers need: the code beside the study file, and `spark.py_files`.

    Args:
        study: The study.
        scratch: Folder for the zips of packages.

    Raises:
        TaskError: A file is missing on this machine.
    """
    code = code_of(study)
    if code:
        log.info("Travels to driver and workers: %s", shown_code(code))
    files = [*ship(code, scratch), *(Path(name) for name in study.settings.spark.py_files)]
    for file in files:
        if not file.is_file():
            raise TaskError(Failure(what=f"spark.py_files names {file}, which is no file on this machine"))
    return files


def passwordless_url(study: StudyFile) -> str | None:
    """The URL of the external database, without its password; None with `database: driver`.

    Raises:
        TaskError: The connection is not to a MySQL server.
    """
    if databricks_settings(study.settings).database == "driver":
        return None
    connection = database_connection(study.settings.connections.database)
    if connection.conn_type != "mysql":
        raise TaskError(
            Failure(
                what=f"connection {connection.conn_id!r} is of type {connection.conn_type}: no cluster can reach that",
                next="Use a MySQL server that both sides reach, or databricks.database: driver.",
            )
        )
    url, tls = storage_url(connection), _on_cluster(study, connection)
    return url.set(password=None).update_query_dict(tls.keys()).render_as_string()


def _on_cluster(study: StudyFile, connection: Connection) -> TlsSettings:
    """The connection's TLS settings, with the paths of the files on the cluster.

    Raises:
        TaskError: Connection and study file do not name the same files (ssl_ca, ssl_cert, ssl_key).
    """
    tls, settings = tls_settings(connection), databricks_settings(study.settings)
    for name in ("ssl_ca", "ssl_cert", "ssl_key"):
        here, there = getattr(tls, name), getattr(settings, name)
        if (here is None) != (there is None):
            raise TaskError(
                Failure(
                    what=f"{name} of connection {connection.conn_id!r} is {here or 'not set'}, and databricks.{name} in"
                    f" the study file is {there or 'not set'}: TLS to MySQL needs both or none",
                    next="The connection's path is on Airflow's machine, the study file's on the cluster, for example"
                    " /Volumes/<catalog>/<schema>/<volume>/mysql-ca.pem.",
                )
            )
    return dataclasses.replace(tls, ssl_ca=settings.ssl_ca, ssl_cert=settings.ssl_cert, ssl_key=settings.ssl_key)
