"""Brings back a study that a reset replaced.

The present study is kept as a replaced one, so doing it again undoes it.
"""

from __future__ import annotations

from pathlib import Path

from optuna_spark.storage.optuna_storage import opened_storage
from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.database.replaced_studies import put_back, replaced_studies
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.runs.refusal import refuse_while_held
from tuning_pipeline.study_file.study_file import StudyFile, read_study
from tuning_pipeline.targets.registry import kind_of


def restore(file: Path, wanted: str = "") -> list[str]:
    """Give a replaced study its name back.

    Args:
        file: The study file.
        wanted: Name of the replaced study; empty for the one replaced last.

    Returns:
        Lines to print.

    Raises:
        TaskError: There is no such study, or a run works on the present one.
        TuningError: The file or its database cannot be used.
    """
    study = read_study(file)
    if not study.has_database:
        raise _in_a_file(study)
    name = study.settings.study
    with opened_storage(storage_url(database_connection(study.settings.connections.database))) as storage:
        found = replaced_studies(storage, name)
        if not found or (wanted and wanted not in found):
            raise _none(name, wanted, found)
        refuse_while_held(storage.engine, name)
        back = wanted or found[-1]
        kept = put_back(storage, name, back)
        lines = [f"study {name} is what was {back}"]
        return [*lines, f"what had its name is kept as {kept}"] if kept else lines


def _in_a_file(study: StudyFile) -> TaskError:
    name, file = study.settings.study, kind_of(study.settings).kept_file(study.settings)
    return TaskError(
        Failure(
            what=f"study {name!r} lives in a file that its cluster works on, and this restores in a database only",
            next=f"While no run goes on, fetch {file}, delete study {name} in it, copy the replaced study to that name"
            " (optuna.delete_study, optuna.copy_study), and put the file back.",
        )
    )


def _none(name: str, wanted: str, found: list[str]) -> TaskError:
    what = f"no study {wanted!r} is kept" if wanted else f"no reset has replaced study {name!r}, or keep_replaced is 0"
    return TaskError(Failure(what=what, next=f"There is: {', '.join(found)}." if found else ""))
