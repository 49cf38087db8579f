"""The URL of a study's database: read, checked, and shown without its password."""

from __future__ import annotations

import os

import sqlalchemy

from optuna_spark.database.mysql_connection import settings_of
from optuna_spark.errors import StorageError

URL_VARIABLE = "OPTUNA_STORAGE_URL"


def storage_url_from_environment() -> str:
    """The storage URL from the environment, which no other user of the machine can read.

    Raises:
        StorageError: The variable is not set.
    """
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise StorageError(
            f"no storage given: set {URL_VARIABLE}, for example"
            " mysql+pymysql://user:password@host:3306/optuna, or pass --storage"
        )
    return url


def parse_url(url: str | sqlalchemy.URL) -> sqlalchemy.URL:
    """The URL as an object; `mysql://` means the driver that is installed here, PyMySQL.

    Raises:
        StorageError: The text is not a database URL.
        TlsError: A TLS key of the URL is wrong; storage/tls.py lists the keys.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise StorageError(
            "the storage must be a URL such as mysql+pymysql://user:password@host:3306/optuna"
            " or sqlite:////absolute/path; the given text is not one"
        ) from None
    parsed = parsed.set(drivername="mysql+pymysql") if parsed.drivername == "mysql" else parsed
    settings_of(parsed)
    return parsed


def describe_url(url: str | sqlalchemy.URL) -> str:
    """The URL without its password, for messages."""
    return parse_url(url).render_as_string(hide_password=True)
