"""Optuna's RDBStorage for a URL, with retries, and a few calls on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError

from optuna_spark.database.engine import engine_options
from optuna_spark.database.mysql_errors import explain, is_overtaken
from optuna_spark.database.retries import retried
from optuna_spark.database.url import parse_url
from optuna_spark.errors import StudyNameError


class RetryingStorage(RDBStorage):
    """RDBStorage whose calls survive deadlocks and dropped connections (optuna issue 1499)."""

    create_new_trial = retried(RDBStorage.create_new_trial)
    get_all_trials = retried(RDBStorage.get_all_trials)
    get_best_trial = retried(RDBStorage.get_best_trial)
    get_trial = retried(RDBStorage.get_trial)
    set_trial_intermediate_value = retried(RDBStorage.set_trial_intermediate_value)
    set_trial_param = retried(RDBStorage.set_trial_param)
    set_trial_state_values = retried(RDBStorage.set_trial_state_values)
    set_trial_system_attr = retried(RDBStorage.set_trial_system_attr)
    set_trial_user_attr = retried(RDBStorage.set_trial_user_attr)


def create_storage(url: str | sqlalchemy.URL, *, prepared: bool = False) -> RDBStorage:
    """Open the storage, creating Optuna's tables where they are missing.

    Args:
        url: The database.
        prepared: Another process of the run has made and checked the tables, so this one spends no time on them.

    Raises:
        StorageError: The server cannot be reached, refuses the account, or holds another schema version.
    """
    parsed = parse_url(url)
    try:
        return _open_storage(parsed, prepared)
    except (DBAPIError, StorageInternalError, RuntimeError, ImportError) as error:
        raise explain(error, parsed) from error


def _open_with(url: sqlalchemy.URL, prepared: bool) -> RDBStorage:
    # RDBStorage runs str.format on the URL, where a password may hold braces.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    return RetryingStorage(
        text, engine_kwargs=engine_options(url), skip_compatibility_check=prepared, skip_table_creation=prepared
    )


# Optuna first looks which tables are missing, then makes them. Two runs may do so at once on an empty database.
_open_storage = retried(_open_with, when=is_overtaken)


def close_storage(storage: RDBStorage) -> None:
    """Close the storage's session and its connections."""
    storage.remove_session()
    storage.engine.dispose()


@contextmanager
def opened_storage(url: str | sqlalchemy.URL, *, prepared: bool = False) -> Iterator[RDBStorage]:
    """`create_storage` for a block, closed at its end.

    Raises:
        StorageError: As for `create_storage`.
    """
    storage = create_storage(url, prepared=prepared)
    try:
        yield storage
    finally:
        close_storage(storage)


def check_name(name: str, storage: RDBStorage) -> None:
    """Refuse a name that the database takes for another study's: most collations of MySQL ignore case.

    Optuna would raise an error that nobody understands, or go on with the other study.

    Raises:
        StudyNameError: The database holds a study whose name differs only in case or accents.
    """
    try:
        stored = storage.get_study_name_from_id(storage.get_study_id_from_name(name))
    except KeyError:
        return
    if stored != name:
        raise StudyNameError(f"the database holds study {stored!r}, and takes the name {name!r} for the same")
