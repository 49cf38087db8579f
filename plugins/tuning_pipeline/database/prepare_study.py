"""Creates, resumes or resets the study, and refuses one that does not fit the spec."""

from __future__ import annotations

import logging
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from optuna_spark.sampling.fits_study import check_directions, check_search_space, stored_distributions
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.empty_study import has_other_directions, is_empty, log_new_directions
from optuna_spark.storage.optuna_storage import check_name, opened_storage
from tuning_pipeline.database.finish_marks import withdraw_finish
from tuning_pipeline.database.replaced_studies import put_study
from tuning_pipeline.database.study_runs import StudyRuns, read_runs, study_is_gone, write_runs
from tuning_pipeline.failures import Failure, TaskError

log = logging.getLogger(__name__)


def prepare_study(spec: TuningSpec, url: sqlalchemy.URL, mode: str, digest: str = "unknown") -> dict[str, Any]:
    """Bring the study into the state that a run starts from.

    Args:
        spec: The run. Its run_id is the run's key.
        url: The study's storage, which has Optuna's tables.
        mode: resume; reset (keep the present study under another name, and begin a new one); or create (fail if the
            study exists). A second call with the same run id changes nothing, whatever the mode.
        digest: Digest of the run's settings (see `settings_digest`).

    Returns:
        study, mode, trials (how many are in each state), and replaced (the new name of a study that was replaced).

    Raises:
        TaskError: The mode is create and the study exists, or a later run's reset has replaced this run's study.
        StudyMismatchError: The stored study does not fit the spec. The message says how.
        StudyNameError: The database takes the name for that of another study.
    """
    with opened_storage(url) as storage:
        check_name(spec.study_name, storage)
        runs = _runs(spec, storage)
        if runs is not None and spec.run_id in runs.former:
            raise _reset_since(spec.study_name, runs)
        if runs is not None and not runs.has(spec.run_id) and mode == "create":
            raise _exists(spec.study_name)
        # A run that is in the list has begun its study before: a second reset would throw its own trials away.
        if runs is None or (mode == "reset" and not runs.has(spec.run_id)):
            return _begin(spec, storage, mode, (runs or StudyRuns({})).replaced().with_run(spec.run_id, digest))
        runs = runs.with_run(spec.run_id, digest)
        if _may_take_directions(spec, storage):
            put_study(storage, spec.study_name, spec.directions, runs)
            log_new_directions(spec.study_name, spec.directions)
        study = _load(spec, storage)
        withdraw_finish(spec.study_name, spec.run_id, storage)
        write_runs(spec.study_name, storage, runs)
        return _summary(study, mode)


def _begin(spec: TuningSpec, storage: RDBStorage, mode: str, runs: StudyRuns) -> dict[str, Any]:
    """Begin a new study. An existing one of this name is kept under another name."""
    kept = put_study(storage, spec.study_name, spec.directions, runs)
    log.info("Created study %s", spec.study_name)
    study = optuna.load_study(study_name=spec.study_name, storage=storage)
    return _summary(study, mode) | ({"replaced": kept} if kept else {})


def _may_take_directions(spec: TuningSpec, storage: RDBStorage) -> bool:
    """Whether the stored study has other directions than the spec, and nothing that would be lost with them."""
    study = storage.get_study_id_from_name(spec.study_name)
    return has_other_directions(storage, study, spec.directions) and is_empty(storage, study)


def _runs(spec: TuningSpec, storage: RDBStorage) -> StudyRuns | None:
    """The runs of the stored study; None if there is no study."""
    try:
        return read_runs(spec.study_name, storage)
    except KeyError:
        return None


def check_prepared(name: str, url: sqlalchemy.URL, key: str) -> None:
    """Check that the study is still the one that this run prepared, and not one that a later reset has begun.

    Raises:
        TaskError: The study is gone, or another one has its name.
    """
    with opened_storage(url, prepared=True) as storage:
        try:
            runs = read_runs(name, storage)
        except KeyError:
            raise study_is_gone(
                name, "Clear prepare_study of this run and what follows it, or trigger a new run."
            ) from None
    if runs.lost(key):
        raise _reset_since(name, runs)


def _load(spec: TuningSpec, storage: RDBStorage) -> optuna.Study:
    study = optuna.load_study(study_name=spec.study_name, storage=storage)
    check_directions(spec.study_name, spec.directions, [d.name.lower() for d in study.directions])
    known = stored_distributions(study.get_trials(deepcopy=False))
    for note in check_search_space(spec.study_name, distributions(spec.search_space), known):
        log.info("Study %s: %s", spec.study_name, note)
    return study


def _summary(study: optuna.Study, mode: str) -> dict[str, Any]:
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    counts = {state.name.lower(): states.count(state) for state in TrialState if state in states}
    log.info("Study %s holds %s trials", study.study_name, len(states))
    return {"study": study.study_name, "mode": mode, "trials": counts}


def _exists(name: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"study {name!r} exists, and mode create must not touch it",
            next="Trigger with mode resume to go on with it, with reset to begin anew, or choose another study name.",
        )
    )


def _reset_since(name: str, runs: StudyRuns) -> TaskError:
    return TaskError(
        Failure(
            what=f"study {name!r} is no longer the one that this run prepared: it was reset or restored since, and run"
            f" {runs.newest} works on it",
            next="Trigger a new run. `tuning restore` (in a checkout `make restore`) brings a replaced study back.",
        )
    )
