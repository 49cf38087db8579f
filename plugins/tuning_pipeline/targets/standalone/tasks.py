"""The tasks of a study's DAG on a Spark standalone cluster, in their order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tuning_pipeline.targets.standalone.final_model import FinalModelOperator
from tuning_pipeline.targets.standalone.operator import TuneOperator
from tuning_pipeline.targets.standalone.rescore import RescoreOperator
from tuning_pipeline.tasks import retune
from tuning_pipeline.tasks import steps as tasks
from tuning_pipeline.tasks.final_model import TASK, trains_model

if TYPE_CHECKING:
    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile


def steps(study: StudyFile, data_fingerprint: Callable[[StudyFile], str]) -> list[Any]:
    """The chain: database, retune rule, study, trials, final model where the study has one, export."""
    model = [train_final_model(study)] if trains_model(study) else []
    return [
        tasks.provision_database(study),
        *retune.steps(study, rescore_best_trial, data_fingerprint),
        tasks.prepare_study(study, check_can_tune, data_fingerprint, ("tune", "rescore_best_trial", TASK)),
        tune(study),
        *model,
        tasks.export_best_trials(study),
    ]


def tune(study: StudyFile) -> TuneOperator:
    """The task that runs the trials."""
    limit = timedelta(seconds=study.settings.execution_timeout_s)
    return TuneOperator(task_id="tune", study=study, execution_timeout=limit, pool=study.settings.pool)


def train_final_model(study: StudyFile) -> FinalModelOperator:
    """The task that trains the final model."""
    limit = timedelta(seconds=study.settings.execution_timeout_s)
    return FinalModelOperator(task_id=TASK, study=study, execution_timeout=limit, pool=study.settings.pool)


def rescore_best_trial(study: StudyFile) -> RescoreOperator:
    """The task that runs the best trial again, on today's data."""
    limit = timedelta(seconds=study.settings.execution_timeout_s)
    return RescoreOperator(task_id="rescore_best_trial", study=study, execution_timeout=limit, pool=study.settings.pool)


def check_can_tune(run: StudyRun) -> None:
    """Check before a reset that `tune` can run after it.

    Raises:
        TaskError: `tune` could not run. It is the same card with which `tune` would end.
    """
    from tuning_pipeline.targets.standalone.cluster import check_cluster, require_cluster

    check_cluster(require_cluster(run.study))
