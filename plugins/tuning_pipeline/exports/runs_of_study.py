"""The runs of a study, as an export of one of them sees them: read, or the card that says why they are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuning_pipeline.database.study_runs import StudyRuns, read_runs, study_is_gone
from tuning_pipeline.exports.folders.paths import export_folder
from tuning_pipeline.failures import Failure, TaskError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tuning_pipeline.runs.study_run import StudyRun


def runs_of_study(run: StudyRun, storage: BaseStorage) -> StudyRuns:
    """The runs of this run's study.

    Raises:
        TaskError: The study is gone, or a later run reset it and so removed this run's trials.
    """
    name = run.study.settings.study
    folder = export_folder(run.study.exports_base(), name, run.identity.run_id)
    try:
        runs = read_runs(name, storage)
    except KeyError:
        raise study_is_gone(name, f"What was exported stays in {folder}. Trigger a new run.") from None
    if run.key in runs.former or (run.identity.made and runs.lost(run.key)):
        raise TaskError(
            Failure(
                what=f"this run's trials are gone from study {name!r}: it was reset or restored since, and run"
                f" {runs.newest} works on it",
                next=f"What was exported stays in {folder}. `tuning restore` (in a checkout `make restore`) brings a"
                " replaced study back.",
            )
        )
    return runs
