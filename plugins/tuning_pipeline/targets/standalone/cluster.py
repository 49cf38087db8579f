"""Checks the Spark cluster of a study before anything is submitted to it."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING

from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.targets.standalone.submission import master_addresses

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from tuning_pipeline.study_file.study_file import StudyFile


REACH_S = 5.0


def require_cluster(study: StudyFile) -> Connection:
    """The connection of a study's Spark cluster.

    Raises:
        TaskError: There is no such connection.
    """
    from tuning_pipeline.database.connections import require_connection

    return require_connection(study.settings.connections.spark, "the Spark cluster")


def check_cluster(connection: Connection) -> None:
    """Check what would otherwise fail minutes later, with a Java stack trace.

    Raises:
        TaskError: spark-submit is not installed, the connection is not to a standalone master, or no master answers.
    """
    master = master_of(connection)
    binary = connection.extra_dejson.get("spark-binary", "spark-submit")
    if shutil.which(binary) is None:
        raise TaskError(
            Failure(
                what=f"{binary} is not on PATH of the Airflow worker",
                next="Put init/spark/bin on its PATH, or install Spark there.",
            )
        )
    # For YARN and Kubernetes, Airflow's hook puts environment variables into arguments. The password is one of them.
    if not master.startswith(("spark://", "local")) or connection.extra_dejson.get("deploy-mode") == "cluster":
        raise TaskError(
            Failure(
                what=f"connection {connection.conn_id!r} must name a Spark standalone master in client mode,"
                f" got {master}",
                next="Set its host to spark://<master> and its port to 7077.",
            )
        )
    addresses = master_addresses(master)
    if any(":" in host and f"[{host}]" not in master for host, _ in addresses):
        raise TaskError(
            Failure(
                what=f"connection {connection.conn_id!r} names the Spark master {master}, whose host cannot be read",
                next="Write an IPv6 address in brackets, spark://[::1], and the port in its own field.",
            )
        )
    # With several masters (for failover) only one of them has to answer.
    problems = [problem for host, port in addresses if (problem := _unreachable(host, port))]
    if problems and len(problems) == len(addresses):
        raise TaskError(
            Failure(
                what=f"no Spark master answers at {master}",
                why="; ".join(problems),
                next=f"Start the master, or correct host and port of connection {connection.conn_id!r}.",
                retry=True,
            )
        )


def master_of(connection: Connection) -> str:
    """The master URL that Airflow's SparkSubmitHook makes from the connection."""
    host = connection.host or ""
    if connection.conn_type == "spark" and host and ("://" in host or not connection.port):
        master = host
    else:
        master = f"{connection.conn_type}://{host}"
    return f"{master}:{connection.port}" if connection.port else master


def _unreachable(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), timeout=REACH_S).close()
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    return None
