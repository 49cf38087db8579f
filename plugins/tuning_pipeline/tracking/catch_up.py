"""Writes to MLflow what it lacks of a study: at the end of each run, and when somebody asks for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import optuna

from optuna_spark.errors import TuningError
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.tracking.catch_up import CaughtUp, sync
from optuna_spark.tracking.target import tracking_target
from tuning_pipeline.database.secret_connections import tracking_secrets

if TYPE_CHECKING:
    import sqlalchemy

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.study_run import StudyRun

log = logging.getLogger(__name__)

# Of a task: what takes longer, or needs a server that does not answer, is left to a later run.
LIMIT_S, PATIENCE_S = 600.0, 10.0


def catch_up(run: StudyRun, url: sqlalchemy.URL) -> None:
    """Write what MLflow lacks, if the study is mirrored. What cannot be written costs the run one line of its log.

    Args:
        run: The run; its trials come first.
        url: Storage URL of the study.
    """
    spec = run.spec
    if spec.tracking is None:
        return
    try:
        caught = mirror_study(spec, url, first=run.key, limit_s=LIMIT_S, patience_s=PATIENCE_S)
        problem = caught.problem
    except Exception as error:  # noqa: BLE001  # whatever it is, the run has its results
        problem = str(error) if isinstance(error, TuningError) else type(error).__name__
    if problem:
        log.warning(
            "MLflow lacks trials of this study (%s): a later run writes them, or `tuning mlflow-sync %s` (in a"
            " checkout make mlflow-sync)",
            problem,
            spec.study_name,
        )
    else:
        log.info("MLflow has the study's %s trials; %s were written now", caught.there, caught.written)


def mirror_study(
    spec: TuningSpec,
    url: sqlalchemy.URL,
    first: str | None = None,
    limit_s: float = 36_000.0,
    patience_s: float = 60.0,
) -> CaughtUp:
    """Mirror a study whose `tracking` names a server; arguments as for `sync`.

    Raises:
        TaskError: The connection is missing or cannot be used.
        SpecError: MLflow's client is not installed here.
    """
    assert spec.tracking is not None
    target = tracking_target(spec, tracking_secrets(spec.tracking))
    assert target is not None
    with opened_storage(url) as storage:
        trials = optuna.load_study(study_name=spec.study_name, storage=storage).get_trials(deepcopy=False)
    return sync(trials, target, first=first, limit_s=limit_s, patience_s=patience_s)
