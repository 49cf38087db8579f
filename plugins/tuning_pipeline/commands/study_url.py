"""The storage URL of a study, for Optuna's own command line and for notebooks."""

from __future__ import annotations

from tuning_pipeline.database.connections import database_connection, storage_url
from tuning_pipeline.failures import Failure, TaskError
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.registry import kind_of


def study_url(study: StudyFile) -> str:
    """The URL as Optuna takes it, with the password: whoever runs this may read the connection anyway.

    Raises:
        TaskError: The study lives in a file, or its connection is missing or incomplete.
    """
    if not study.has_database:
        file = kind_of(study.settings).kept_file(study.settings)
        raise TaskError(
            Failure(
                what=f"study {study.settings.study!r} lives in a file that its cluster works on",
                next=f"Fetch {file} and open it as sqlite:///<path>.",
            )
        )
    url = storage_url(database_connection(study.settings.connections.database))
    return url.render_as_string(hide_password=False)
