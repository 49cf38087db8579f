"""The final model, for the task that trains it. Optuna and the exports' readers are imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy

    from optuna_spark.spec.model import ModelOrder
    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile

TASK = "train_final_model"


def trains_model(study: StudyFile) -> bool:
    """Whether the study has a final model."""
    model = study.settings.model
    return model is not None and model.refit


def model_order(run: StudyRun, url: sqlalchemy.URL) -> ModelOrder:
    """See `exports.final_model.model_order`."""
    from tuning_pipeline.exports import final_model

    return final_model.model_order(run, url)


def keep_model(run: StudyRun, folder: Path) -> None:
    """See `exports.final_model.keep_model`."""
    from tuning_pipeline.exports import final_model

    final_model.keep_model(run, folder)
