"""Opens the spec's study with its sampler and pruner, in the driver or in a worker."""

from __future__ import annotations

import optuna
from optuna.storages import RDBStorage

from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.sampling.fits_study import check_directions
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.empty_study import take_directions
from optuna_spark.storage.optuna_storage import check_name
from optuna_spark.storage.retries import retried


def open_study(spec: TuningSpec, storage: RDBStorage) -> optuna.Study:
    """Open the spec's study. Creates the study if it does not exist; an empty one takes the spec's directions.

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
        pruner=build_pruner(spec.pruner),
        directions=list(spec.directions),
        load_if_exists=True,
    )
    check_directions(spec.study_name, spec.directions, [d.name.lower() for d in study.directions])
    return study


@retried
def join_study(spec: TuningSpec, storage: RDBStorage, seed: int | None, max_steps: int | None) -> optuna.Study:
    """Open the spec's study in a worker, once the driver has called `open_study`.

    Args:
        spec: The run.
        storage: Its database.
        seed: Of the worker's own sampler.
        max_steps: The last step of a full trial, where it is known.
    """
    sampler, pruner = build_sampler(spec.sampler, seed), build_pruner(spec.pruner, max_steps)
    return optuna.load_study(study_name=spec.study_name, storage=storage, sampler=sampler, pruner=pruner)
