"""Creates or upgrades Optuna's tables, in one process at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from optuna.storages import RDBStorage

from optuna_spark.database.engine import engine_options
from optuna_spark.database.mysql_connection import sealing_other_engines
from tuning_pipeline.database.lease_table import make_lease_table
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    import sqlalchemy

    from tuning_pipeline.database.mysql_hook import PyMySqlHook

log = logging.getLogger(__name__)

LOCK_S = 120


def ensure_schema(url: sqlalchemy.URL) -> str:
    """Create Optuna's tables, or upgrade those of an older Optuna. Also create the table of leases.

    Returns:
        The schema version.

    Raises:
        TaskError: The tables belong to a newer Optuna.
    """
    # RDBStorage runs str.format on the URL, where a password may hold braces.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    storage = RDBStorage(text, engine_kwargs=engine_options(url), skip_compatibility_check=True)
    try:
        # Upgraded here, because RDBStorage itself only refuses the tables of an older Optuna.
        current, head = storage.get_current_version(), storage.get_head_version()
        if current != head:
            if current not in storage.get_all_versions():
                raise _too_new(current, head)
            log.info("Upgrading Optuna's tables from %s to %s", current, head)
            with sealing_other_engines():
                storage.upgrade()
        make_lease_table(storage.engine)
        return head
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def schema_lock(hook: PyMySqlHook, database: str) -> Iterator[None]:
    """Hold a server-wide lock for this database's schema: two processes that create it at once break it.

    See optuna issue 1092. MySQL frees the lock when the connection ends.

    Raises:
        TaskError: Another process held the lock for too long.
    """
    with closing(hook.get_conn()) as connection, connection.cursor() as cursor:
        name = f"optuna_schema.{database}"[:64]  # MySQL takes no longer name
        cursor.execute("SELECT GET_LOCK(%s, %s)", (name, LOCK_S))
        if cursor.fetchone()[0] != 1:
            raise _locked(database)
        yield
        cursor.execute("SELECT RELEASE_LOCK(%s)", (name,))


def _too_new(current: str, head: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"the database holds Optuna's schema {current}, newer than {head}, the one this Optuna knows",
            next="Install the Optuna that made it in Airflow's environment, or use another database.",
        )
    )


def _locked(database: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"another process has been preparing database {database!r} for more than {LOCK_S} s",
            next="Wait for it, or end it.",
            retry=True,
        )
    )
