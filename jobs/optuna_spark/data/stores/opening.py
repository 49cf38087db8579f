"""Opens the file system of an object store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from urllib.parse import urlsplit

from pyarrow import fs

from optuna_spark.errors import DataError
from optuna_spark.spec.run_secrets import problem_of_endpoint

# Of one answer. Arrow asks again, so a store that is silent is given up after three times as long.
TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
_ATTEMPTS = 3
_AZURE = ".dfs.core.windows.net"


def open_store(path: str, secrets: Mapping[str, str]) -> fs.FileSystem:
    """The file system that a path is on. Nothing of the path need exist.

    Args:
        path: `s3://bucket/key`, `s3a://bucket/key`, `gs://bucket/key` or `abfss://container@account.host/key`.
        secrets: What opens it: access_key, secret_key, session_token, region and endpoint_url (S3); account_key, or
            sas_token, or client_id, client_secret and tenant_id (Azure). Empty: what this machine has, such as its role
            or environment.

    Raises:
        DataError: The path names no bucket, or the secrets may not go where they would.
        OSError: The store gives no answer that it is needed for.
    """
    scheme, place = split(path)[:2]
    return _OPENERS[scheme](place, secrets)


def split(path: str) -> tuple[str, str, str]:
    """Scheme, place (the bucket, or `container@account.host`) and key of a path, taken literally.

    Raises:
        DataError: It has no bucket, or a login where it may have none.
    """
    scheme, _, rest = path.partition("://")
    place, _, key = rest.partition("/")
    if not place:
        raise DataError(f"data.path {path!r} names no bucket: write {scheme}://<bucket>/<key>")
    if scheme == "abfss":
        container, _, host = place.partition("@")
        if not (container and host):
            raise DataError(
                f"data.path {path!r} names no storage account: write abfss://<container>@<account>{_AZURE}/<key>"
            )
    elif "@" in place or ":" in place:
        raise DataError(
            f"data.path {scheme}://.../{key} has more than a bucket before its key: name the Airflow connection in"
            " data.connection, and the address in its extra, endpoint_url"
        )
    return scheme, place, key


def inner_path(path: str) -> str:
    """What Arrow calls a path on its file system: `bucket/key`."""
    _, place, key = split(path)
    return f"{place.partition('@')[0]}/{key}".rstrip("/")


def outer_path(like: str, inner: str) -> str:
    """The path for people of what Arrow calls `inner`, on the store of the path `like`."""
    scheme, place, _ = split(like)
    bucket, _, key = inner.partition("/")
    host = place.partition("@")[2]
    return f"{scheme}://{bucket}{'@' if host else ''}{host}/{key}"


def _s3(bucket: str, secrets: Mapping[str, str]) -> fs.FileSystem:
    endpoint = secrets.get("endpoint_url") or _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if secrets.get("access_key") and endpoint and (problem := problem_of_endpoint(endpoint)) is not None:
        raise DataError(f"endpoint_url of the store {problem}")
    region = secrets.get("region") or _variable("AWS_REGION", "AWS_DEFAULT_REGION")
    if not region:
        # The store of Amazon tells where a bucket is; others mostly have one region, and take any name for it.
        region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
    parts = urlsplit(endpoint)
    return fs.S3FileSystem(
        access_key=secrets.get("access_key"),
        secret_key=secrets.get("secret_key"),
        session_token=secrets.get("session_token"),
        region=region,
        scheme=parts.scheme or "https",
        endpoint_override=parts.netloc or None,
        request_timeout=TIMEOUT_S,
        connect_timeout=CONNECT_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


def _gs(_bucket: str, _secrets: Mapping[str, str]) -> fs.FileSystem:
    return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=TIMEOUT_S * _ATTEMPTS))


def _abfss(place: str, secrets: Mapping[str, str]) -> fs.FileSystem:
    account, _, domain = place.partition("@")[2].partition(".")
    given = {name: secrets[name] for name in _AZURE_SECRETS if secrets.get(name)}
    if f".{domain}" != _AZURE:  # of another cloud of Microsoft's
        given["dfs_storage_authority"] = f".{domain}"
        given["blob_storage_authority"] = f".{domain}".replace(".dfs.", ".blob.", 1)
    return fs.AzureFileSystem(account, **given)


_AZURE_SECRETS = ("account_key", "sas_token", "client_id", "client_secret", "tenant_id")
_OPENERS: dict[str, Callable[[str, Mapping[str, str]], fs.FileSystem]] = {
    "s3": _s3, "s3a": _s3, "gs": _gs, "abfss": _abfss,
}  # fmt: skip


def _variable(*names: str) -> str:
    return next((value for name in names if (value := os.environ.get(name))), "")
