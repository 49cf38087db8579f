"""Access to a Databricks workspace through databricks-sdk: files on Volumes and in its folders, and readable errors."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow.providers.databricks.exceptions import DatabricksApiError
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import NotFound, PermissionDenied, Unauthenticated
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.workspace import ExportFormat, ImportFormat

from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from airflow.sdk import Connection


log = logging.getLogger(__name__)

# Seconds for which the SDK repeats a call that was throttled or did not get through, and in which one is answered.
RETRY_S, ANSWER_S = 60, 30


def workspace_url(connection: Connection) -> str:
    """The address of the workspace, from the connection's host or the one in its extra, as the provider reads it.

    Raises:
        TaskError: The connection has no host.
    """
    host = str(connection.extra_dejson.get("host") or connection.host or "")
    if not host:
        raise TaskError(
            Failure(
                what=f"connection {connection.conn_id!r} has no host",
                next="Set it to the workspace's address, such as https://adb-123.4.azuredatabricks.net.",
            )
        )
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    return f"{host.rstrip('/')}:{connection.port}" if connection.port else host.rstrip("/")


def open_workspace(connection: Connection, patience_s: int | None = None) -> WorkspaceClient:
    """A client of the workspace, with the credentials of Airflow's connection.

    Args:
        connection: The connection.
        patience_s: Seconds in which a call must be answered, and for which one that did not get through is repeated.
            None: as long as a task can wait.

    Raises:
        TaskError: The connection has no credentials that this pipeline can use, or the workspace cannot be reached.
    """
    with readable_errors(connection):
        retry_s, answer_s = (RETRY_S, ANSWER_S) if patience_s is None else (patience_s, patience_s)
        options = {"retry_timeout_seconds": retry_s, "http_timeout_seconds": answer_s, **_credentials(connection)}
        # The SDK's newer client moves files through the cloud's storage, which Airflow may not be able to reach.
        options["disable_experimental_files_api_client"] = True
        return WorkspaceClient(config=Config(host=workspace_url(connection), **options))


def _credentials(connection: Connection) -> dict[str, Any]:
    extra, login = connection.extra_dejson, connection.login
    password = connection.password or extra.get("token")
    if password and login and extra.get("service_principal_oauth"):
        return {"client_id": login, "client_secret": password, "auth_type": "oauth-m2m"}
    if password and login and extra.get("azure_tenant_id"):
        return {
            "azure_client_id": login,
            "azure_client_secret": password,
            "azure_tenant_id": str(extra["azure_tenant_id"]),
            "auth_type": "azure-client-secret",
        }
    if password and not login:
        return {"token": password, "auth_type": "pat"}  # auth_type: so that the SDK tries no login of this machine's
    raise TaskError(
        Failure(
            what=f"connection {connection.conn_id!r} has no credentials for Databricks",
            next="Put a personal access token into its password and leave the login empty; or a service principal:"
            " login and password with the extra service_principal_oauth or azure_tenant_id.",
        )
    )


class RemoteFolders:
    """Reads and writes files below /Volumes and /Workspace."""

    def __init__(self, client: WorkspaceClient) -> None:
        self._client = client

    def exists(self, path: str) -> bool:
        try:
            if path.startswith("/Volumes/"):
                self._client.files.get_metadata(path)
            else:
                self._client.workspace.get_status(path)
        except NotFound:
            return False
        return True

    def write(self, path: str, content: bytes) -> None:
        """Write a file, and make its folder. Replaces an existing file."""
        folder = str(PurePosixPath(path).parent)
        if path.startswith("/Volumes/"):
            self._client.files.create_directory(folder)
            self._client.files.upload(path, io.BytesIO(content), overwrite=True)
        else:
            self._client.workspace.mkdirs(folder)
            self._client.workspace.upload(path, io.BytesIO(content), format=ImportFormat.RAW, overwrite=True)

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is no such file."""
        try:
            if not path.startswith("/Volumes/"):
                return bytes(self._client.workspace.download(path, format=ExportFormat.AUTO).read())
            contents = self._client.files.download(path).contents
        except NotFound:
            return None
        return bytes(contents.read()) if contents is not None else None

    def delete(self, path: str) -> bool:
        """Delete a file. Returns whether there was one."""
        try:
            if path.startswith("/Volumes/"):
                self._client.files.delete(path)
            else:
                self._client.workspace.delete(path)
        except NotFound:
            return False
        return True

    def store(self, folder: str, name: str, content: bytes) -> str:
        """Write a file below a folder named by the hash of its content. An unchanged file is not sent again.

        A run that still uses an older file keeps it, because new content has another path.

        Returns:
            The path, `<folder>/<hash>/<name>`.
        """
        path = f"{folder}/{hashlib.sha256(content).hexdigest()[:20]}/{name}"
        if self.exists(path):
            log.info("%s is there already", path)
        else:
            self.write(path, content)
            log.info("Sent %s (%s bytes)", path, len(content))
        return path

    def store_file(self, folder: str, file: Path) -> str:
        """`store` for a file on this machine."""
        return self.store(folder, file.name, file.read_bytes())


@contextmanager
def readable_errors(connection: Connection) -> Iterator[None]:
    """Turn errors of the SDK into failure cards.

    Raises:
        TaskError: Says what went wrong and what to do.
    """
    conn_id, host = connection.conn_id, workspace_url(connection)
    try:
        yield
    except (Unauthenticated, PermissionDenied) as error:
        raise TaskError(refused(conn_id, host, str(error))) from error
    except DatabricksError as error:
        raise TaskError(
            Failure(
                what=f"Databricks at {host} answers with an error",
                why=str(error),
                next="Correct what it names, then run again.",
                retry=True,
            )
        ) from error
    except (OSError, TimeoutError) as error:
        raise TaskError(unreachable(conn_id, host, str(error))) from error


def refused(conn_id: str | None, host: str, why: str) -> Failure:
    """The card for a token that is wrong, has expired, or lacks a permission."""
    return Failure(
        what=f"Databricks at {host} refuses the credentials of connection {conn_id!r}",
        why=why,
        next="Make a new token in the workspace (Settings > Developer > Access tokens) and put it into the"
        " connection's password; its owner needs write access to databricks.files and the right to create clusters.",
    )


def unreachable(conn_id: str | None, host: str, why: str) -> Failure:
    """The card for a workspace that does not answer."""
    return Failure(
        what=f"no Databricks workspace answers at {host}",
        why=why,
        next=f"Check host of connection {conn_id!r} and the network between Airflow and the workspace.",
        retry=True,
    )


PURPOSE = "the Databricks workspace"


def failure_report(conn_id: str, output: str) -> Mapping[str, str] | None:
    """The content of the job's failure file; None if there is none, or if it cannot be read."""
    connection = require_connection(conn_id, PURPOSE)
    with readable_errors(connection):
        content = RemoteFolders(open_workspace(connection)).read(f"{output}/failure.json")
    try:
        report = json.loads(content or b"")
    except ValueError:
        return None
    return report if isinstance(report, dict) else None


def explain_call(error: Exception, conn_id: str) -> Failure:
    """The card for a failed call to the workspace."""
    host = workspace_url(require_connection(conn_id, PURPOSE))
    status = error.http_status_code if isinstance(error, DatabricksApiError) else None
    if status in (401, 403):
        return refused(conn_id, host, str(error))
    if isinstance(error, DatabricksApiError):
        return Failure(
            what=f"Databricks at {host} refuses the run",
            why=str(error),
            next="Correct databricks.cluster in the study file, then run again.",
        )
    return unreachable(conn_id, host, str(error))
