"""The Optuna storage behind a URL: engine options, retries, schema, and the study in it."""

from __future__ import annotations

import functools
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, OperationalError

from optuna_spark.errors import StorageError, StudyMismatchError
from optuna_spark.samplers import build_pruner, build_sampler
from optuna_spark.spec import TuningSpec

log = logging.getLogger(__name__)

URL_VARIABLE = "OPTUNA_STORAGE_URL"
ATTEMPTS = 8
F = TypeVar("F", bound=Callable[..., Any])

# MySQL and MariaDB: shutdown in progress, lock wait timeout, deadlock, connection killed, and a lost connection
# in three wordings. No server at all (2003) is not among them: _PatientConnect has waited for it already.
_TRANSIENT_CODES = {1053, 1205, 1213, 1927, 2006, 2013, 2055}
_ABSENT_CODES = {1053, 2002, 2003, 2006, 2013}


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
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise StorageError(
            "the storage must be a URL such as mysql+pymysql://user:password@host:3306/optuna"
            " or sqlite:////absolute/path; the given text is not one"
        ) from None
    return parsed.set(drivername="mysql+pymysql") if parsed.drivername == "mysql" else parsed


def describe_url(url: str | sqlalchemy.URL) -> str:
    """The URL without its password, for messages."""
    return parse_url(url).render_as_string(hide_password=True)


class _PatientConnect:
    """Opens connections for an engine; once the server has answered, waits for it when it restarts."""

    def __init__(self, url: sqlalchemy.URL, options: dict[str, Any]) -> None:
        self._dialect = url.get_dialect()()
        self._dialect.dbapi = url.get_dialect().import_dbapi()
        self._args, parameters = self._dialect.create_connect_args(url)
        self._parameters = {**parameters, **options}
        self._answered = False

    def __call__(self) -> Any:
        connection = self._patiently() if self._answered else self._connect()
        self._answered = True
        return connection

    def _connect(self) -> Any:
        return self._dialect.connect(*self._args, **self._parameters)

    def _patiently(self) -> Any:
        for attempt in range(1, ATTEMPTS):
            try:
                return self._connect()
            except Exception as error:
                if not error.args or error.args[0] not in _ABSENT_CODES:
                    raise
                log.warning("The database does not answer, attempt %s of %s", attempt, ATTEMPTS)
                _pause(attempt)
        return self._connect()


def engine_options(url: str | sqlalchemy.URL) -> dict[str, Any]:
    """SQLAlchemy engine arguments for a long run: dead connections are noticed, waits are bounded."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 60}}
    connect = _PatientConnect(parsed, {"connect_timeout": 10, "charset": "utf8mb4"})
    return {"pool_pre_ping": True, "pool_recycle": 1800, "creator": connect}


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help: a deadlock, a lock wait or a connection that broke."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        return is_transient(error.__cause__)
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    code = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return code in _TRANSIENT_CODES or "database is locked" in str(error.orig)


def retried(function: F) -> F:
    """Repeat a database call on transient errors, with growing random pauses (about 40 s in all: a server restart)."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(1, ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except (StorageInternalError, DBAPIError) as error:
                if not is_transient(error):
                    raise
                log.warning("Database call %s failed, attempt %s of %s", function.__name__, attempt, ATTEMPTS)
                _pause(attempt)
        return function(*args, **kwargs)

    return cast(F, call)


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.5, 1.0) * 0.2 * 2**attempt)  # noqa: S311  # jitter, not a secret


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
    text = parsed.render_as_string(hide_password=False)
    # RDBStorage runs str.format on the URL.
    text = text.replace("{", "{{").replace("}", "}}")
    try:
        return RetryingStorage(
            text,
            engine_kwargs=engine_options(parsed),
            skip_compatibility_check=prepared,
            skip_table_creation=prepared,
        )
    except (OperationalError, StorageInternalError, RuntimeError, ImportError) as error:
        raise explain(error, parsed) from error


def explain(error: BaseException, url: str | sqlalchemy.URL) -> StorageError:
    """One sentence for a database error: what failed, where, and what to do."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DBAPIError):
        cause = cause.__cause__
    original = cause.orig if isinstance(cause, DBAPIError) else error
    code = original.args[0] if original is not None and original.args else None
    parsed = parse_url(url)
    account, place = parsed.username, f"{parsed.host}:{parsed.port or 3306}"
    if code == 1045:
        return StorageError(f"MySQL at {place} refuses the password of {account!r}: correct the connection")
    if code in (1044, 1049, 1142):
        return StorageError(
            f"account {account!r} may not use database {parsed.database!r} at {place}:"
            " create it and grant the account its rights (init/mysql does)"
        )
    if code in (2002, 2003, 2005, 2006, 2013):
        return StorageError(f"no MySQL server answers at {place}: start it, or correct host and port")
    return StorageError(f"the storage {describe_url(parsed)} cannot be used: {original}")


def open_study(spec: TuningSpec, storage: RDBStorage) -> optuna.Study:
    """The spec's study, created where it does not exist yet, with the spec's sampler and pruner.

    Raises:
        StudyMismatchError: The stored study has other directions.
    """
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
