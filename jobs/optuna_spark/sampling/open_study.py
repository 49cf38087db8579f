"""Opens the spec's study with its sampler and pruner, in the driver or in a worker."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.storages import RDBStorage

from optuna_spark.results.best import metric_names
from optuna_spark.results.versions import note_versions
from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.sampling.fits_study import check_directions
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.empty_study import take_directions
from optuna_spark.storage.optuna_storage import check_name


def open_study(
    spec: TuningSpec, storage: RDBStorage, value_names: Sequence[str] = (), max_steps: int | None = None
) -> optuna.Study:
    """Open the spec's study for a run of its own. Creates it if it does not exist; an empty one takes its directions.

    Args:
        spec: The run.
        storage: Its database.
        value_names: What the values are called; empty where nobody knows, so that names somebody else gave stay.
        max_steps: The last step of a full trial, where it is known.

    Raises:
        StudyMismatchError: The stored study has other directions.
        StudyNameError: The database takes the name for that of another study.
    """
    check_name(spec.study_name, storage)
    take_directions(storage, spec.study_name, spec.directions)
    study = optuna.create_study(
        study_name=spec.study_name,
        storage=storage,
        sampler=build_sampler(spec.sampler, spec.seed),
        pruner=build_pruner(spec.pruner, max_steps),
        directions=list(spec.directions),
        load_if_exists=True,
    )
    check_directions(spec.study_name, spec.directions, [d.name.lower() for d in study.directions])
    name_values(study, value_names)
    note_versions(study, storage, spec.run_id)
    return study


def name_values(study: optuna.Study, names: Sequence[str]) -> None:
    """Give the study's values their names, which dashboards show; plain ones where nobody has named them."""
    wanted = list(names) or metric_names(study)
    if wanted != study.metric_names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(wanted)
