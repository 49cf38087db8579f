"""Studies that a reset has replaced. They are kept under other names, until enough newer ones were replaced as well."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage

from optuna_spark.results.snapshot import quiet
from optuna_spark.spec.run_keys import Direction
from optuna_spark.storage.optuna_storage import opened_storage
from tuning_pipeline.database.study_runs import StudyRuns, write_runs
from tuning_pipeline.study_file.study_names import NEW, REPLACED

log = logging.getLogger(__name__)

_RENAME = sa.text("UPDATE studies SET study_name = :new WHERE study_id = :study")


def put_study(storage: RDBStorage, name: str, directions: Sequence[Direction], runs: StudyRuns) -> str | None:
    """Replace the study `name` by an empty one, in one transaction: after a crash there is the old one or the new one.

    Returns:
        The new name of the old study; None if there was none, or if it had no trials and was deleted.
    """
    new = name + NEW
    _delete(storage, new)  # a killed attempt may have left it behind
    with quiet():  # Optuna would announce a study with a name that nobody chose
        optuna.create_study(study_name=new, storage=storage, directions=list(directions))
    write_runs(new, storage, runs)
    if name not in optuna.get_all_study_names(storage):
        rename(storage, {new: name})
        return None
    kept = _replaced_name(name)
    rename(storage, {name: kept, new: name})
    if not storage.get_n_trials(storage.get_study_id_from_name(kept)):
        _delete(storage, kept)
        return None
    log.info("Study %s is kept as %s", name, kept)
    return kept


def put_back(storage: RDBStorage, name: str, back: str) -> str | None:
    """Give a replaced study its name back. If another study has that name now, returns the new name of that one."""
    if name not in optuna.get_all_study_names(storage):
        rename(storage, {back: name})
        return None
    kept = _replaced_name(name)
    rename(storage, {name: kept, back: name})
    return kept


def _replaced_name(name: str) -> str:
    return f"{name}{REPLACED}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"


def rename(storage: RDBStorage, names: dict[str, str]) -> None:
    """Give studies new names (old name: new name), in this order and in one transaction."""
    # All ids are looked up first: a name may belong to another study once the first one is renamed.
    rows = [(storage.get_study_id_from_name(old), new) for old, new in names.items()]
    with storage.engine.begin() as connection:
        for study, new in rows:
            connection.execute(_RENAME, {"new": new, "study": study})


def replaced_studies(storage: RDBStorage, name: str) -> list[str]:
    """The names of the studies that resets of this one have replaced, the oldest first."""
    form = re.compile(re.escape(name + REPLACED) + r"\d{8}T\d{6}\.\d{6}Z")
    return sorted(found for found in optuna.get_all_study_names(storage) if form.fullmatch(found))


def drop_replaced(storage: RDBStorage, name: str, keep: int) -> list[str]:
    """Delete all but the newest `keep` replaced studies. Returns the names of the deleted ones."""
    found = replaced_studies(storage, name)
    gone = found[: max(0, len(found) - keep)]
    for old in gone:
        log.info("Deleting study %s: keep_replaced is %s", old, keep)
        _delete(storage, old)
    return gone


def drop_replaced_in(url: sa.URL, name: str, keep: int) -> list[str]:
    """`drop_replaced` for a storage URL."""
    with opened_storage(url) as storage:
        return drop_replaced(storage, name, keep)


def _delete(storage: RDBStorage, name: str) -> None:
    if name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
