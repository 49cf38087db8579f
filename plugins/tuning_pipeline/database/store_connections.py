"""What an Airflow connection holds for an object store: for Arrow, which workers read with, and for Spark's Hadoop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow.sdk.log import mask_secret

from optuna_spark.spec.run_secrets import DataSecrets, RunSecrets, problem_of_endpoint
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from optuna_spark.spec.data import DataSpec

_SECRET = ("secret_key", "session_token", "account_key", "sas_token", "client_secret")
_AMAZON = "aws"
GOOGLE = "google_cloud_platform"
_AZURE = ("wasb", "adls")
# Of connections of other types, Spark's reader gets all as options.
_FOR_SPARK = (_AMAZON, "wasb")
_OF_HADOOP = ("abfs://", "abfss://", "wasb://", "wasbs://")


def is_for_store(connection: Connection, distribution: str) -> bool:
    """Whether a study of this distribution uses the connection as one of an object store."""
    return distribution != "dataframe" or connection.conn_type in _FOR_SPARK


def opened_store(connection: Connection, data: DataSpec, distribution: str) -> RunSecrets:
    """The secrets that open an object store.

    Args:
        connection: As `is_for_store` says.
        data: The table.
        distribution: Of the study. With `dataframe` Spark reads where it has a file system of its own, else Arrow.

    Raises:
        TaskError: The connection does not open what `data.path` names.
    """
    if distribution != "dataframe":
        return RunSecrets(DataSecrets(store=store_secrets(connection, data)))
    find = _s3a if connection.conn_type == _AMAZON else _azure_of_hadoop
    conf = {f"spark.hadoop.{name}": value for name, value in find(connection, data).items()}
    by_arrow = data.location.startswith(("s3://", "abfss://"))
    return RunSecrets(DataSecrets(store=store_secrets(connection, data) if by_arrow else {}), conf)


def store_secrets(connection: Connection, data: DataSpec) -> dict[str, str]:
    """What Arrow opens the store with, under the names of data/stores/opening.py.

    Raises:
        TaskError: As `opened_store`.
    """
    if connection.conn_type == GOOGLE:
        raise unusable(
            connection,
            f"is of type {GOOGLE}, and gs:// is opened with what each machine has: remove data.connection, and give"
            " machines a service account or GOOGLE_APPLICATION_CREDENTIALS",
        )
    if connection.conn_type == _AMAZON:
        _check_schemes(connection, data.paths, ("s3://", "s3a://"))
        found = _amazon(connection)
    elif connection.conn_type in _AZURE:
        _check_schemes(connection, data.paths, ("abfss://",))
        found = _azure(connection)
    else:
        raise unusable(
            connection,
            f"is of type {connection.conn_type}, which opens no object store: give it type aws for s3://, wasb or adls"
            " for abfss://",
        )
    for name in _SECRET:
        if found.get(name):
            mask_secret(found[name])  # an extra's name need not look like that of a secret
    return {name: value for name, value in found.items() if value}


def _check_schemes(connection: Connection, paths: Sequence[str], schemes: Sequence[str]) -> None:
    if not all(path.startswith(tuple(schemes)) for path in paths):
        raise unusable(
            connection, f"is of type {connection.conn_type}, for {' or '.join(schemes)}, and data.path is another"
        )


def _amazon(connection: Connection) -> dict[str, str]:
    """Of https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/aws.html."""
    extra = _texts(connection)
    found = {
        "access_key": connection.login or extra.get("aws_access_key_id", ""),
        "secret_key": connection.password or extra.get("aws_secret_access_key", ""),
        "session_token": extra.get("aws_session_token", ""),
        "region": extra.get("region_name", ""),
        "endpoint_url": extra.get("endpoint_url", ""),
    }
    if not (found["access_key"] and found["secret_key"]):
        raise _no_keys(connection)
    problem = problem_of_endpoint(found["endpoint_url"]) if found["endpoint_url"] else None
    if problem is not None:
        raise unusable(connection, f"has an endpoint_url in its extra, which {problem}")
    return found


def _no_keys(connection: Connection) -> TaskError:
    return unusable(connection, "has no access key (login) and secret key (password); a role needs no connection")


def _azure(connection: Connection) -> dict[str, str]:
    """The account key, a token, or an application's login.

    https://airflow.apache.org/docs/apache-airflow-providers-microsoft-azure/stable/connections/wasb.html
    """
    extra = _texts(connection)
    tenant, token = extra.get("tenant_id", ""), extra.get("sas_token", "")
    if token:
        return {"sas_token": token}
    if not connection.password:
        raise _no_account_key(connection)
    if not tenant:
        return {"account_key": connection.password}
    if not connection.login:
        raise unusable(connection, "has a tenant_id and no login, which is then the client id")
    return {"client_id": connection.login, "client_secret": connection.password, "tenant_id": tenant}


def _no_account_key(connection: Connection) -> TaskError:
    return unusable(
        connection, "has no password, which is the account key, and no sas_token; other ways go into conf_connection"
    )


def _s3a(connection: Connection, data: DataSpec) -> Mapping[str, str]:
    """Properties of Hadoop's S3A, for the bucket of data.path only.

    https://hadoop.apache.org/docs/r3.4.1/hadoop-aws/tools/hadoop-aws/
    """
    _check_schemes(connection, data.paths[:1], ("s3a://", "s3://"))
    bucket, extra = _place(data), connection.extra_dejson
    given = {
        "access.key": connection.login or extra.get("aws_access_key_id"),
        "secret.key": connection.password or extra.get("aws_secret_access_key"),
        "session.token": extra.get("aws_session_token"),
        "endpoint": extra.get("endpoint_url"),
        "endpoint.region": extra.get("region_name"),
    }
    if not (given["access.key"] and given["secret.key"]):
        raise _no_keys(connection)
    return {f"fs.s3a.bucket.{bucket}.{name}": str(value) for name, value in given.items() if value}


def _azure_of_hadoop(connection: Connection, data: DataSpec) -> Mapping[str, str]:
    """The property with the account key: https://hadoop.apache.org/docs/r3.4.1/hadoop-azure/abfs.html."""
    _check_schemes(connection, data.paths[:1], _OF_HADOOP)
    if not connection.password:
        if data.is_store and _texts(connection).get("sas_token"):
            return {}  # which Hadoop has no one property for, and Arrow takes
        raise _no_account_key(connection)
    return {f"fs.azure.account.key.{_place(data).rpartition('@')[2]}": connection.password}


def _place(data: DataSpec) -> str:
    """The bucket, or `container@account.host`, of the (first) path."""
    return data.paths[0].partition("://")[2].partition("/")[0]


def _texts(connection: Connection) -> dict[str, str]:
    return {str(name): value for name, value in connection.extra_dejson.items() if isinstance(value, str)}


def unusable(connection: Connection, problem: str) -> TaskError:
    """The error of a connection with this problem."""
    return TaskError(
        Failure(what=f"connection {connection.conn_id!r} {problem}", next="Correct it under Admin > Connections.")
    )
