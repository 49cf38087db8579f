"""Asks a run to finish early, and tells why a run ended early: notes in the study's system attributes.

The driver reads the request with its ordinary round trips to the database, so it needs no way to the driver.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from optuna_spark.results.snapshot import mask_passwords
from optuna_spark.storage.run_marks import ENDED_EARLY, FINISH, mark, with_mark
from tuning_pipeline.database.study_runs import read_runs, study_is_gone
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def request_finish(study: str, run: str, by: str, storage: BaseStorage) -> None:
    """Ask a run to finish early. It sees the request within a few seconds; its running trials get `grace_s`.

    Args:
        study: Name of the study.
        run: The run's key (`RunIdentity.key`), or Airflow's run id.
        by: Who asks, for the report.
        storage: The study's storage.

    Raises:
        TaskError: There is no such study, or the run has not worked on it.
    """
    key, study_id = run_key(study, run, storage), storage.get_study_id_from_name(study)
    marks = storage.get_study_system_attrs(study_id).get(FINISH)
    storage.set_study_system_attr(study_id, FINISH, with_mark(marks, key, by))


def withdraw_finish(study: str, run: str, storage: BaseStorage) -> None:
    """Forget a request to a run that begins once more, such as one that came after the run had ended."""
    study_id = storage.get_study_id_from_name(study)
    marks = storage.get_study_system_attrs(study_id).get(FINISH)
    if mark(marks, run) is not None:
        storage.set_study_system_attr(study_id, FINISH, with_mark(marks, run, None))


def finish_requested_by(study: str, run: str, storage: BaseStorage) -> str | None:
    """Who asked a run to finish early, until the run has ended; None if nobody has.

    Raises:
        TaskError: There is no such study.
    """
    return _read(FINISH, study, run, storage)


def ended_early(study: str, run: str, storage: BaseStorage) -> str | None:
    """Why a run ended before its trials were spent, such as "finished early by alice"; None if it did not.

    Raises:
        TaskError: There is no such study.
    """
    why = _read(ENDED_EARLY, study, run, storage)
    return None if why is None else mask_passwords(why)  # it may quote an objective's error


def run_key(study: str, run: str, storage: BaseStorage) -> str:
    """The key of a run of this study, by the key itself or by Airflow's run id; of several runs the newest.

    Raises:
        TaskError: As for `request_finish`.
    """
    try:
        own = read_runs(study, storage).own
    except KeyError:
        raise study_is_gone(study, "Trigger a new run.") from None
    if run in own:
        return run
    found = _newest_of(own, run)
    if found is None:
        raise TaskError(
            Failure(
                what=f"run {run} has not begun to work on study {study!r}",
                next="Wait until its task prepare_study has ended, or mark the run as failed to end it now.",
            )
        )
    return found


def _newest_of(keys: Iterable[str], run_id: str) -> str | None:
    """The last of the keys of Airflow's run id: a key is the id, a dot, and a hash."""
    return next((key for key in reversed([*keys]) if key.rpartition(".")[0] == run_id), None)


def _read(key: str, study: str, run: str, storage: BaseStorage) -> str | None:
    try:
        marks = storage.get_study_system_attrs(storage.get_study_id_from_name(study)).get(key)
    except KeyError:
        raise study_is_gone(study, "Trigger a new run.") from None
    found = mark(marks, run)
    if found is not None or not isinstance(marks, dict):
        return found
    newest = _newest_of(marks, run)
    return None if newest is None else mark(marks, newest)
