"""Opens connections for a storage URL, with TLS as the URL's keys ask, for any version of PyMySQL."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import sqlalchemy as sa
from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR

from optuna_spark.database.tls import TlsSettings
from optuna_spark.errors import TlsError


class TlsConnection(Connection):
    """A connection that has TLS before it logs in, or fails.

    If the server's greeting offers no TLS, PyMySQL before 1.2 goes on in clear text and sends the password. Anybody
    between the two hosts can change the greeting so. PyMySQL 1.2 refuses by itself.

    Between greeting and login there is no public hook, so this overrides a private method. A test tries both versions
    against a real server behind a proxy that changes the greeting.
    """

    def _request_authentication(self) -> None:
        if not self.server_capabilities & CLIENT.SSL:  # type: ignore[attr-defined]  # not in the stubs
            raise refused(f"TLS was asked for, and {self.host}:{self.port} offers none; no password was sent")
        try:
            super()._request_authentication()  # type: ignore[misc]  # not in the stubs
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise  # the server went away: trying again may help
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", None) or error.reason or "unknown"
            raise refused(f"TLS with {self.host}:{self.port} failed ({why}); no password was sent") from error


def refused(message: str) -> pymysql.err.OperationalError:
    """An error of the driver's own class, with MySQL's number for a TLS connection that could not be made."""
    return pymysql.err.OperationalError(CR.CR_SSL_CONNECTION_ERROR, message)


class NoClearPassword:
    """Replaces MySQL's plugin mysql_clear_password, by which any host that answers as the server gets the password."""

    def __init__(self, connection: object) -> None:
        """Called by PyMySQL with its connection."""

    def authenticate(self, _packet: object) -> Any:
        raise pymysql.err.OperationalError(
            CR.CR_AUTH_PLUGIN_CANNOT_LOAD,
            "the server asks for the password in clear text (mysql_clear_password), which needs ssl_mode VERIFY_CA or"
            " VERIFY_IDENTITY; it was not sent",
        )


def connect(tls: TlsSettings, **arguments: Any) -> Any:
    """Open a PyMySQL connection. Only a server whose certificate was checked may ask for the clear password.

    Args:
        tls: Whether and how the connection uses TLS.
        arguments: Arguments of `pymysql.connect`.

    Raises:
        TlsError: A file of the settings cannot be used.
        pymysql.MySQLError: The connection failed; number 2026 if TLS was asked for and could not be set up.
    """
    if not tls.verifies:
        arguments["auth_plugin_map"] = {"mysql_clear_password": NoClearPassword}
    if tls.asked:
        return TlsConnection(ssl=tls.context(), **arguments)
    if tls.ssl_mode == "DISABLED":
        arguments["ssl_disabled"] = True
    return pymysql.connect(**arguments)


def opener(url: sa.URL, options: dict[str, Any]) -> Callable[[], Any]:
    """A function that opens a connection for the URL, without an engine.

    Args:
        url: The database, with the TLS keys in its query.
        options: Further arguments of the driver's `connect`.
    """
    tls, plain = settings_of(url), without_tls(url)
    dialect = plain.get_dialect()()
    dialect.dbapi = plain.get_dialect().import_dbapi()
    positional, arguments = dialect.create_connect_args(plain)
    arguments = {**arguments, **options}
    if plain.get_driver_name() == "pymysql":
        return lambda: connect(tls, **arguments)
    return lambda: dialect.connect(*positional, **arguments)


def settings_of(url: sa.URL) -> TlsSettings:
    """The TLS settings in a URL.

    Raises:
        TlsError: A key is unknown, its value is wrong, or the URL's driver cannot guarantee it.
    """
    tls = TlsSettings.from_keys(url.query)
    if tls.ssl_mode and url.get_driver_name() != "pymysql":
        raise TlsError(
            f"ssl_mode {tls.ssl_mode} is kept with mysql+pymysql only, got {url.drivername}: write"
            " mysql+pymysql://... (drivers over MariaDB's library may go on in clear text)"
        )
    return tls


def without_tls(url: sa.URL) -> sa.URL:
    """The URL without its TLS keys, which SQLAlchemy and the driver do not know."""
    return url.difference_update_query(TlsSettings.from_keys(url.query).keys())


@contextmanager
def sealing_other_engines() -> Iterator[None]:
    """Give TLS to engines that others make from our URLs, within the block.

    Alembic makes an engine of its own when it upgrades Optuna's tables, and takes no connection of ours.
    """

    def seal(dialect: sa.Dialect, _record: object, _positional: object, arguments: dict[str, Any]) -> Any:
        if dialect.driver != "pymysql" or "ssl_mode" not in arguments:
            return None
        # SQLAlchemy has moved ssl_ca, ssl_cert and ssl_key into one argument `ssl`, as PyMySQL wants them.
        given = {"ssl_mode": arguments.pop("ssl_mode")}
        given |= {f"ssl_{name}": path for name, path in arguments.pop("ssl", {}).items()}
        return connect(TlsSettings.from_keys(given), **arguments)

    sa.event.listen(sa.Engine, "do_connect", seal)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "do_connect", seal)
