"""Reads the connections that a study file names for secrets: of its data, of Spark's properties, of MLflow.

They are read when a task runs. Their secrets reach the driver in a private file. They are never in the spec, an
argument, a Spark property of the submission, a rendered field or an XCom.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.sdk.log import mask_secret

from optuna_spark.spec.run_secrets import DataSecrets, RunSecrets, TrackingSecrets
from tuning_pipeline.database.connections import require_connection
from tuning_pipeline.database.store_connections import is_for_store, opened_store, unusable
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.keys.spark import OWN_CONF, conf_text

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from optuna_spark.spec.data import DataSpec
    from optuna_spark.spec.sections import TrackingSpec
    from tuning_pipeline.study_file.keys.spark import SparkSettings
    from tuning_pipeline.study_file.settings import StudySettings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# spark-submit itself reads these properties, before the driver can add any.
_TOO_LATE = ("spark.driver.", "spark.jars", "spark.pyspark.", "spark.submit.", "spark.files", "spark.archives")


def run_secrets(settings: StudySettings) -> RunSecrets | None:
    """The secrets in the study's connections, which are masked in the log; None if the study names no such connection.

    Raises:
        TaskError: A connection is missing, holds nothing usable, or sets what the study file sets as well.
    """
    secrets = _of_data_and_spark(settings)
    if settings.tracking is None:
        return secrets
    return replace(secrets or RunSecrets(), tracking=tracking_secrets(settings.tracking))


def tracking_secrets(tracking: TrackingSpec) -> TrackingSecrets:
    """Address and login of the MLflow server.

    Raises:
        TaskError: The connection is missing or names no address, or others on the way could read its login.
    """
    connection = require_connection(tracking.mlflow, "tracking.mlflow")
    host = connection.host or ""
    # As Airflow's own HTTP connections: the schema is the protocol, unless the host says one.
    uri = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    try:
        url = urlsplit(uri)
        port = url.port or connection.port
    except ValueError:
        raise unusable(connection, "has a host that is none: write an IPv6 address as [::1]") from None
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc or url.query or url.fragment:
        raise unusable(connection, "must have the address of an MLflow server as host, such as https://mlflow.my.org")
    if connection.login and not connection.password:
        raise unusable(connection, "has a login without password: give both, or a token as password alone")
    if connection.password and url.scheme != "https" and url.hostname not in _LOOPBACK:
        raise unusable(connection, "needs an https:// host: anyone on the way reads its password else")
    place = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    address = f"{url.scheme}://{place}{f':{port}' if port else ''}{url.path.rstrip('/')}"
    return TrackingSecrets(address, connection.login or "", connection.password or "")


def _of_data_and_spark(settings: StudySettings) -> RunSecrets | None:
    data, spark = settings.data, settings.spark
    opened = _opened(data, settings.distribution) if data is not None and data.connection is not None else RunSecrets()
    conf = _spark_properties(spark) if spark.conf_connection is not None else {}
    if data is None or data.connection is None:
        return RunSecrets(conf=conf) if conf else None
    for name in opened.conf:
        if name in conf or name in spark.conf:
            raise _twice(data.connection, f"Spark property {name}", "the study file or spark.conf_connection")
    return RunSecrets(opened.data, {**conf, **opened.conf})


def _opened(data: DataSpec, distribution: str) -> RunSecrets:
    """The secrets that open the table: an HTTP header for a URL, keys of an object store, or Spark's reader options."""
    connection = require_connection(str(data.connection), "data.connection")
    if data.is_url:
        return RunSecrets(DataSecrets(authorization=_authorization(connection, data)))
    if is_for_store(connection, distribution):
        return opened_store(connection, data, distribution)
    return RunSecrets(DataSecrets(options=_reader_options(connection, data)))


def _authorization(connection: Connection, data: DataSpec) -> str:
    """The HTTP header for a URL: Basic with a login, Bearer without one. Only for the connection's host and port."""
    url = urlsplit(data.location)
    # A form field may set data.path. Without this check, it could send the login to any server.
    if not connection.host or _address(connection) != (url.hostname, url.port or 443):
        raise unusable(
            connection,
            f"must have host {url.hostname} and the port of data.path, so that its login goes nowhere else;"
            f" it has {connection.host or 'none'}",
        )
    if not connection.password:
        raise unusable(connection, "has no password: give login and password, or a bearer token as password alone")
    if not connection.login:
        return f"Bearer {connection.password}"
    header = base64.b64encode(f"{connection.login}:{connection.password}".encode()).decode()
    mask_secret(header)  # Airflow masks the password, but would not know it in Base64
    return f"Basic {header}"


def _address(connection: Connection) -> tuple[str | None, int]:
    """Host and port of the connection. Its host may be a URL, or an IPv6 address in brackets."""
    host = connection.host or ""
    try:
        given = urlsplit(host if "://" in host else f"https://{host}")
        return given.hostname, connection.port or given.port or 443
    except ValueError:
        raise unusable(connection, f"has host {host}, which is none: write an IPv6 address as [::1]") from None


def _reader_options(connection: Connection, data: DataSpec) -> dict[str, str]:
    """Options for Spark's reader: user, password, and all of the extra."""
    extra = {str(name): value for name, value in connection.extra_dejson.items()}
    named = {"user": connection.login, "password": connection.password}
    for name, value in extra.items():
        if not isinstance(value, str | int | float | bool):
            raise unusable(connection, f"has an extra {name} that is no text, number or true/false")
    options = {name: value for name, value in named.items() if value} | {n: conf_text(v) for n, v in extra.items()}
    if not options:
        raise unusable(connection, "holds nothing that opens data.path: give login and password, or reader options")
    # Reader options ignore case. Of an option that is set twice, one value would silently be ignored.
    for name in options:
        if name.lower() in {given.lower() for given in data.format_options}:
            raise _twice(str(connection.conn_id), f"reader option {name}", "data.format_options")
    return options


def _spark_properties(spark: SparkSettings) -> dict[str, str]:
    """The Spark properties in the extra of `spark.conf_connection`."""
    connection = require_connection(str(spark.conf_connection), "spark.conf_connection", everything=True)
    properties = {str(name): value for name, value in connection.extra_dejson.items()}
    if not properties:
        raise unusable(connection, 'must hold Spark properties in its extra, {"spark.hadoop.fs.x": "..."}')
    for name, value in properties.items():
        problem = _problem(name, value)
        if problem:
            raise unusable(connection, f"holds {name}, which {problem}")
        if name in spark.conf:
            raise _twice(str(connection.conn_id), f"Spark property {name}", "spark.conf")
    return {name: conf_text(value) for name, value in properties.items()}


def _problem(name: str, value: object) -> str | None:
    if not name.startswith("spark."):
        return "is no Spark property: they start with spark."
    if name in OWN_CONF:
        return f"is set by {OWN_CONF[name]}"
    if name.lower().endswith("javaoptions"):
        return "would stand in the process list of the cluster: give the program a file to read instead"
    if name.startswith(_TOO_LATE):
        return (
            "spark-submit reads before the driver can add it: put it into spark-defaults.conf on the driver's machine"
        )
    if not isinstance(value, str | int | float | bool):
        return "is no text, number or true/false"
    return None


def _twice(conn_id: str, what: str, where: str) -> TaskError:
    return TaskError(
        Failure(what=f"connection {conn_id!r} and {where} both set {what}", next="Remove it from one of the two.")
    )
