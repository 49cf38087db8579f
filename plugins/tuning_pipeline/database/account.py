"""The tuning account in MySQL: the hosts it may come from, its password, its rights, and other accounts of its name."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import ER

from optuna_spark.database.mysql_errors import code_of
from tuning_pipeline.database.connections import tls_settings
from tuning_pipeline.database.mysql_hook import PyMySqlHook, place
from tuning_pipeline.database.readable_connections import plain_host
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.keys.study_keys import HOST_PATTERN
from tuning_pipeline.targets.registry import kind_of

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from tuning_pipeline.study_file.settings import StudySettings

log = logging.getLogger(__name__)

# The rights that Optuna's RDBStorage and our writer need to read and write a study. Found by leaving out one at a time.
READ_WRITE = ("SELECT", "INSERT", "UPDATE", "DELETE")
# The rights to make the tables (CREATE, INDEX, and for foreign keys REFERENCES, which only MySQL asks for), and to
# upgrade those of an older Optuna (ALTER). DROP is not among them: upgrades drop columns, constraints and indexes, but
# no table. init/mysql/create-account.sh grants the same rights; a test compares the two.
CREATE_TABLES = ("CREATE", "ALTER", "INDEX", "REFERENCES")
RIGHTS = READ_WRITE + CREATE_TABLES


def check_admin_is_as_safe(admin: Connection, connection: Connection) -> None:
    """Check that the admin's connection uses TLS at least as strong as the tuning account's own.

    The admin's connection sends the tuning account's password to the server.

    Raises:
        TaskError: The admin's TLS is weaker. Nothing was sent.
    """
    wanted, given = tls_settings(connection), tls_settings(admin)
    if given.strength >= wanted.strength or admin.extra_dejson.get("unix_socket"):
        return
    raise TaskError(
        Failure(
            what=f"connection {connection.conn_id!r} asks for ssl_mode {wanted.ssl_mode}, but {admin.conn_id!r}, which"
            f" sends that account's password to the server, has {given.ssl_mode or 'none'}",
            next=f"Give the extra of connection {admin.conn_id!r} the same TLS keys.",
        )
    )


def account_host(cursor: Any, settings: StudySettings, admin: Connection, connection: Connection) -> str:
    """The host pattern of the account.

    It is the study file's or the connection's. Without one, it is this machine's host as the server sees it. That is
    enough only if the driver runs on this machine and nothing else connects.

    Raises:
        TaskError: There is no pattern, and this machine's host is not enough.
    """
    if settings.database.host_pattern:
        return settings.database.host_pattern
    if "host_pattern" in connection.extra_dejson:
        return _checked(connection)
    if unknown := _why_unknown(settings, admin, connection):
        raise _no_pattern(connection, unknown)
    cursor.execute("SELECT SUBSTRING_INDEX(USER(), '@', -1)")
    return str(cursor.fetchone()[0])


def _checked(connection: Connection) -> str:
    pattern = connection.extra_dejson["host_pattern"]
    if isinstance(pattern, str) and re.fullmatch(HOST_PATTERN, pattern):
        return pattern
    raise TaskError(
        Failure(
            what=f"host_pattern of connection {connection.conn_id!r} must be a host, an address or a pattern with %,"
            f" got {pattern!r}",
            next="Correct it in the connection's extra.",
        )
    )


def _why_unknown(settings: StudySettings, admin: Connection, connection: Connection) -> str | None:
    if elsewhere := kind_of(settings).driver_elsewhere:
        return elsewhere
    if settings.coordination == "database":
        return "with coordination database every worker connects to MySQL"
    if _address(admin) != _address(connection):
        return f"connections {admin.conn_id!r} and {connection.conn_id!r} reach the server in different ways"
    return None


def _address(connection: Connection) -> tuple[Any, ...]:
    return plain_host(connection.host or ""), connection.port, connection.extra_dejson.get("unix_socket")


def create_account(cursor: Any, connection: Connection, host: str) -> None:
    """Create the tuning account, or give it its new password. It gets rights on its own database only.

    If the connection uses TLS, the account may be used over TLS only.

    Raises:
        TaskError: The account requires TLS and the connection does not use it, or MySQL picks another account.
    """
    account, password = connection.login, connection.password
    sealed = tls_settings(connection).asked
    if cursor.execute("SELECT ssl_type FROM mysql.user WHERE User = %s AND Host = %s", (account, host)) == 0:
        require = " REQUIRE SSL" if sealed else ""
        cursor.execute(f"CREATE USER IF NOT EXISTS %s@%s IDENTIFIED BY %s{require}", (account, host, password))
        log.info("Created account %s@%s", account, host)
    else:
        _change(cursor, connection, host, required=bool(cursor.fetchone()[0]), sealed=sealed)
    cursor.execute(f"GRANT {', '.join(RIGHTS)} ON `{grant_pattern(connection)}`.* TO %s@%s", (account, host))
    # MySQL may still pick another account of this name, whose host pattern is more specific.
    if not _password_fits(connection):
        raise _shadowed(connection, host)


def _change(cursor: Any, connection: Connection, host: str, *, required: bool, sealed: bool) -> None:
    account = connection.login
    if required and not sealed:
        raise _requires_tls(connection, host)
    if sealed and not required:
        cursor.execute("ALTER USER %s@%s REQUIRE SSL", (account, host))
        log.info("Account %s@%s must use TLS from now on", account, host)
    if not _password_fits(connection):
        cursor.execute("ALTER USER %s@%s IDENTIFIED BY %s", (account, host, connection.password))
        log.info("Gave account %s@%s its new password", account, host)


def _password_fits(connection: Connection) -> bool:
    # A login is tried, because stored password hashes differ between servers and their plugins.
    try:
        PyMySqlHook(connection=connection).get_conn().close()
    except pymysql.MySQLError as error:
        if code_of(error) == ER.ACCESS_DENIED_ERROR:
            return False
    return True


# USAGE is MySQL's word for no right at all.
_EXTRA_RIGHTS = """
    SELECT DISTINCT '*.*' FROM information_schema.USER_PRIVILEGES
        WHERE GRANTEE = %(grantee)s AND (PRIVILEGE_TYPE <> 'USAGE' OR IS_GRANTABLE = 'YES')
    UNION SELECT DISTINCT TABLE_SCHEMA FROM information_schema.SCHEMA_PRIVILEGES
        WHERE GRANTEE = %(grantee)s AND (TABLE_SCHEMA <> %(pattern)s OR IS_GRANTABLE = 'YES')
"""


def warn_about_extra_rights(cursor: Any, connection: Connection, host: str) -> None:
    """Warn if the account has more rights than it needs. They stay, because other programs may use the account."""
    grantee = f"'{connection.login}'@'{host}'"
    cursor.execute(_EXTRA_RIGHTS, {"grantee": grantee, "pattern": grant_pattern(connection)})
    scopes = sorted(scope for (scope,) in cursor.fetchall())
    if scopes:
        log.warning("Account %s has more rights than a study needs, on %s: revoke them", grantee, ", ".join(scopes))


def wider_accounts(cursor: Any, connection: Connection, host: str) -> list[str]:
    """Other accounts of this name for more than one host. Logs each, with the statement that removes it.

    Earlier versions of this package made an account for all hosts. It stays, because other programs may use it.
    """
    cursor.execute(
        "SELECT Host FROM mysql.user WHERE User = %s AND Host <> %s AND Host LIKE '%%\\%%%%' ORDER BY Host",
        (connection.login, host),
    )
    found = [f"'{connection.login}'@'{pattern}'" for (pattern,) in cursor.fetchall()]
    for account in found:
        log.warning(
            "Account %s lets in other hosts than %s, and is not used by this study: if nothing else needs it, run"
            " DROP USER %s; as administrator",
            account, host, account,
        )  # fmt: skip
    return found


def grant_pattern(connection: Connection) -> str:
    """The name of the connection's database for GRANT, where an unescaped `_` would stand for any character."""
    return str(connection.schema).replace("_", r"\_")


def _no_pattern(connection: Connection, why: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"nothing says which hosts account {connection.login!r} may connect from",
            why=f"{why}, so that the host cannot be known here",
            next="Set database.host_pattern in the study file, or host_pattern in the extra of connection"
            f" {connection.conn_id!r}, to the hosts MySQL sees, such as 10.0.0.%; % lets in every host.",
        )
    )


def _requires_tls(connection: Connection, host: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"account '{connection.login}'@'{host}' requires TLS, and connection {connection.conn_id!r} asks for"
            " none",
            next="Give the connection's extra ssl_mode and ssl_ca; or, as administrator: ALTER USER"
            f" '{connection.login}'@'{host}' REQUIRE NONE;",
        )
    )


def _shadowed(connection: Connection, host: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"MySQL at {place(connection)} still refuses account {connection.login!r} after it was given"
            " its password",
            why=f"another account of that name, or one without a name, matches this machine before {host!r} does,"
            f" or this machine does not match {host!r}",
            next="Remove that account, or set database.host_pattern in the study file to the host MySQL sees.",
        )
    )
