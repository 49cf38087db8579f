"""The Optuna storage behind a URL: engine options, schema, and the study in it."""

from __future__ import annotations

import os
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from pymysql.constants import CR
from sqlalchemy.exc import DBAPIError

from optuna_spark.errors import StorageError, StudyMismatchError, StudyNameError, TlsError
from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.mysql_connection import settings_of
from optuna_spark.storage.retries import PatientConnect, code_of, is_overtaken, retried

URL_VARIABLE = "OPTUNA_STORAGE_URL"


def storage_url_from_environment() -> str:
    """The storage URL the caller left in the environment, which no other user of the machine can read.

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
        TlsError: What it says about TLS is wrong; tls.py lists the keys.
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


def engine_options(url: str | sqlalchemy.URL) -> dict[str, Any]:
    """SQLAlchemy engine arguments for a long run: dead connections are noticed, waits are bounded."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 60}}
    connect = PatientConnect(parsed, {"connect_timeout": 10, "charset": "utf8mb4"})
    return {"pool_pre_ping": True, "pool_recycle": 1800, "creator": connect}


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


def explain(error: BaseException, url: str | sqlalchemy.URL) -> StorageError:
    """One sentence for a database error: what failed, where, and what to do."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__
    original = cause.orig if isinstance(cause, DBAPIError) else error
    code = code_of(original)
    parsed = parse_url(url)
    account, place = parsed.username, f"{parsed.host}:{parsed.port or 3306}"
    if code == 1045:
        return StorageError(f"MySQL at {place} refuses the password of {account!r}: correct the connection")
    if code in (1044, 1049, 1142):
        return StorageError(
            f"account {account!r} may not use database {parsed.database!r} at {place}:"
            " create it and grant the account its rights (init/mysql does)"
        )
    if original is not None and code == CR.CR_SSL_CONNECTION_ERROR:
        return TlsError(f"{original.args[1]}: correct ssl_mode and ssl_ca, or give the server TLS")
    if code in (2002, 2003, 2005, 2006, 2013):
        return StorageError(f"no MySQL server answers at {place}: start it, or correct host and port")
    return StorageError(f"the storage {describe_url(parsed)} cannot be used: {original}")


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


def open_study(spec: TuningSpec, storage: RDBStorage) -> optuna.Study:
    """The spec's study, created where it does not exist yet, with the spec's sampler and pruner.

    Raises:
        StudyMismatchError: The stored study has other directions.
        StudyNameError: The database takes the name for another study's.
    """
    check_name(spec.study_name, storage)
    study = optuna.create_study(
        study_name=spec.study_name,
        storage=storage,
        sampler=build_sampler(spec.sampler, spec.seed),
        pruner=build_pruner(spec.pruner, spec.max_steps),
        directions=list(spec.directions),
        load_if_exists=True,
    )
    stored = tuple(d.name.lower() for d in study.directions)
    if stored != spec.directions:
        raise StudyMismatchError(
            f"study {spec.study_name!r} is stored with directions {', '.join(stored)} but the spec says"
            f" {', '.join(spec.directions)}: use another study name, or reset the study"
        )
    return study


@retried
def join_study(spec: TuningSpec, storage: RDBStorage, seed: int | None) -> optuna.Study:
    """The spec's study as a worker opens it, after the driver's `open_study`, with a seed of the worker's own."""
    sampler, pruner = build_sampler(spec.sampler, seed), build_pruner(spec.pruner, spec.max_steps)
    return optuna.load_study(study_name=spec.study_name, storage=storage, sampler=sampler, pruner=pruner)


def set_trial_attr(storage: RDBStorage, study: optuna.Study, number: int, key: str, value: Any) -> None:
    """Set a user attribute of a trial that another process runs or ran."""
    study_id = storage.get_study_id_from_name(study.study_name)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
    storage.set_trial_user_attr(trial_id, key, value)
