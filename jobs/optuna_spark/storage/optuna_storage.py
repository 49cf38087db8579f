"""The Optuna storage behind a URL: engine options, schema, and the study in it."""

from __future__ import annotations

from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError

from optuna_spark.errors import StudyNameError
from optuna_spark.storage.engine import engine_options
from optuna_spark.storage.mysql_errors import explain, is_overtaken
from optuna_spark.storage.retries import retried
from optuna_spark.storage.url import parse_url


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
        prepared: Another process of the same run has made and checked the tables: spend no time on them.

    Raises:
        StorageError: The server cannot be reached, refuses the account, or holds another schema version.
    """
    parsed = parse_url(url)
    try:
        return _open_storage(parsed, prepared)
    except (DBAPIError, StorageInternalError, RuntimeError, ImportError) as error:
        raise explain(error, parsed) from error


def _open_with(url: sqlalchemy.URL, prepared: bool) -> RDBStorage:
    # RDBStorage runs str.format on the URL.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    return RetryingStorage(
        text, engine_kwargs=engine_options(url), skip_compatibility_check=prepared, skip_table_creation=prepared
    )


# Optuna looks which tables are missing, then makes them: two studies may start at once on an empty database.
_open_storage = retried(_open_with, when=is_overtaken)


def close_storage(storage: RDBStorage) -> None:
    """Close its session and its connections."""
    storage.remove_session()
    storage.engine.dispose()


def check_name(name: str, storage: RDBStorage) -> None:
    """Refuse a name that the database takes for another study's: MySQL's usual collations do not look at case.

    Raises:
        StudyNameError: It does; Optuna would end in a stack, or go on with the other study.
    """
    try:
        stored = storage.get_study_name_from_id(storage.get_study_id_from_name(name))
    except KeyError:
        return
    if stored != name:
        raise StudyNameError(f"the database holds study {stored!r}, and takes the name {name!r} for the same")


def set_trial_attr(storage: RDBStorage, study: optuna.Study, number: int, key: str, value: Any) -> None:
    """Set a user attribute of a trial that another process runs or ran."""
    study_id = storage.get_study_id_from_name(study.study_name)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
    storage.set_trial_user_attr(trial_id, key, value)
