"""Runs the best trial again on today's data, in a separate study."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import optuna
import sqlalchemy

from optuna_spark.errors import StudyMismatchError
from optuna_spark.sampling.fits_study import check_directions, check_search_space, stored_distributions
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.sections import StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.trial_marks import run_id_of
from tuning_pipeline.study_file.study_names import RESCORE

log = logging.getLogger(__name__)


def rescoring(spec: TuningSpec, params: Mapping[str, Any]) -> TuningSpec:
    """The spec of a run with one trial, with these parameters, in a separate study.

    In the real study, its value on other data would mislead the sampler.
    """
    return spec.with_changes(
        study_name=rescore_study(spec.study_name),
        enqueue=(dict(params),),
        trials=1,
        tasks=1,
        tracking=None,  # it is no trial of the study that is mirrored
        stop=StopSpec(max_failures=1, max_retries=spec.stop.max_retries),
    )


def rescore_study(name: str) -> str:
    """The name of the study for the trials of `rescoring`."""
    return f"{name}{RESCORE}"


def drop_unfit_rescores(spec: TuningSpec, url: sqlalchemy.URL) -> bool:
    """Delete the study of `rescoring` if its trials do not fit the spec any more. Returns whether it did.

    Nobody reads them again: each run looks at its own trial only.

    Args:
        spec: The spec that `rescoring` made.
        url: The study's storage.
    """
    with opened_storage(url) as storage:
        try:
            study = optuna.load_study(study_name=spec.study_name, storage=storage)
        except KeyError:
            return False
        try:
            check_directions(spec.study_name, spec.directions, [d.name.lower() for d in study.directions])
            known = stored_distributions(study.get_trials(deepcopy=False))
            check_search_space(spec.study_name, distributions(spec.search_space), known)
        except StudyMismatchError as error:
            log.info("The trials of earlier runs in %s are deleted: %s", spec.study_name, error)
            optuna.delete_study(study_name=spec.study_name, storage=storage)
            return True
        return False


def rescored_value(study: optuna.Study, run_id: str) -> float | None:
    """The value that this run's `rescoring` found; None if its trial did not complete."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    values = [trial.value for trial in done if run_id_of(trial) == run_id]
    return values[-1] if values else None
