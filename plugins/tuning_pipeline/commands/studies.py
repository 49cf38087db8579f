"""The studies in the databases that study files name: listed, and deleted one at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage

from optuna_spark.storage.optuna_storage import opened_storage
from tuning_pipeline.commands.study_sizes import study_bytes
from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.runs.refusal import refuse_while_held
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.study_file.study_names import RESCORE


@dataclass(frozen=True)
class StudyRow:
    """One study of a database.

    Attributes:
        connection: Airflow connection of the database.
        name: Of the study.
        trials: How many it has, in any state.
        best: Best value; empty where there is none, or several directions.
        size_bytes: About how much of the database's files is its.
        last: When its newest trial began.
    """

    connection: str
    name: str
    trials: int
    best: str
    size_bytes: int
    last: datetime | None


def list_studies(files: Iterable[StudyFile]) -> list[StudyRow]:
    """Every study in the databases of these files, with or without a file.

    Raises:
        TuningError: A database cannot be reached.
    """
    return [row for conn_id in _connections(files) for row in _rows(conn_id)]


def _connections(files: Iterable[StudyFile]) -> list[str]:
    return sorted({file.settings.connections.database for file in files if file.has_database})


def _rows(conn_id: str) -> Iterator[StudyRow]:
    with opened_storage(storage_url(database_connection(conn_id))) as storage:
        sizes = study_bytes(storage.engine)
        for name in sorted(optuna.get_all_study_names(storage)):
            study = storage.get_study_id_from_name(name)
            trials = storage.get_n_trials(study)
            yield StudyRow(
                conn_id, name, trials, _best(storage, study), sizes.get(study, 0), _last(storage.engine, study)
            )


def _best(storage: RDBStorage, study: int) -> str:
    if len(storage.get_study_directions(study)) > 1:
        return ""
    try:
        return f"{storage.get_best_trial(study).value:g}"
    except ValueError:  # no trial is complete
        return ""


def _last(engine: sa.Engine, study: int) -> datetime | None:
    with engine.connect() as connection:
        begun: datetime | str | None = connection.execute(
            sa.text("SELECT MAX(datetime_start) FROM trials WHERE study_id = :study"), {"study": study}
        ).scalar()
    return datetime.fromisoformat(begun) if isinstance(begun, str) else begun


def table(rows: Sequence[StudyRow]) -> str:
    """The rows as aligned text."""
    cells = [("study", "trials", "best", "about", "last trial began", "connection")]
    cells += [
        (
            row.name,
            str(row.trials),
            row.best,
            f"{row.size_bytes / 1e6:.1f} MB",
            row.last.isoformat(" ", "seconds") if row.last else "",
            row.connection,
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def delete(files: Sequence[StudyFile], name: str, ask: Callable[[str], bool] | None) -> int:
    """Delete a study and the twin that rule drift made of it. Returns the exit code.

    Args:
        files: Study files, whose databases are looked through.
        name: Of the study.
        ask: Whether to go on, asked with what goes; None to go on unasked.

    Raises:
        TaskError: No database has such a study, or a run works on it.
    """
    for conn_id in _connections(files):
        with opened_storage(storage_url(database_connection(conn_id))) as storage:
            there = optuna.get_all_study_names(storage)
            if name not in there:
                continue
            refuse_while_held(storage.engine, name)
            going = [study for study in (name, f"{name}{RESCORE}") if study in there]
            for study in going:
                trials = storage.get_n_trials(storage.get_study_id_from_name(study))
                sys.stdout.write(f"study {study} in {conn_id}: {trials} trials go, and cannot be brought back\n")
            if ask is not None and not ask("delete?"):
                sys.stdout.write("nothing was deleted\n")
                return 1
            for study in going:
                optuna.delete_study(study_name=study, storage=storage)
            sys.stdout.write(f"deleted {', '.join(going)}; exports and the study file stay\n")
            return 0
    raise TaskError(Failure(what=f"no database of these study files has a study {name!r}", next="See: tuning studies"))
