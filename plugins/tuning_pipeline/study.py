"""Create, resume or reset the study, and refuse one that does not fit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from optuna_spark.errors import StudyMismatchError
from optuna_spark.search_space import distributions
from optuna_spark.spec import TuningSpec
from optuna_spark.storage import check_name, create_storage
from tuning_pipeline.failures import Failure, TaskError

log = logging.getLogger(__name__)

# Which run created the study, or its present form after a reset: what makes a retried task harmless.
CREATED_BY = "created_by_run"


def prepare_study(spec: TuningSpec, url: sqlalchemy.URL, mode: str) -> dict[str, Any]:
    """Bring the study into the state a run starts from.

    Args:
        spec: The run.
        url: The study's storage; Optuna's tables are there.
        mode: resume, reset (delete this study and start again) or create (fail if it exists). A second call
            with the same run id keeps what the first one and its trials made.

    Returns:
        study, mode, and how many trials it holds by state.

    Raises:
        TaskError: Mode create, and the study exists.
        StudyMismatchError: The stored study does not fit the spec; the message says how.
        StudyNameError: The database takes the name for another study's.
    """
    storage = create_storage(url)
    try:
        check_name(spec.study_name, storage)
        exists = spec.study_name in optuna.get_all_study_names(storage)
        mine = exists and _created_by(spec.study_name, storage) == spec.run_id
        if exists and not mine and mode == "create":
            raise _exists(spec.study_name)
        if exists and not mine and mode == "reset":
            log.info("Deleting study %s and its trials", spec.study_name)
            optuna.delete_study(study_name=spec.study_name, storage=storage)
            exists = False
        study = _load(spec, storage) if exists else _create(spec, storage)
        return _summary(study, mode)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _load(spec: TuningSpec, storage: BaseStorage) -> optuna.Study:
    study = optuna.load_study(study_name=spec.study_name, storage=storage)
    check_directions(spec, tuple(d.name.lower() for d in study.directions))
    for note in check_search_space(distributions(spec.search_space), stored_distributions(study)):
        log.info("Study %s: %s", spec.study_name, note)
    return study


def _create(spec: TuningSpec, storage: BaseStorage) -> optuna.Study:
    study = optuna.create_study(study_name=spec.study_name, storage=storage, directions=list(spec.directions))
    study.set_user_attr(CREATED_BY, spec.run_id)
    log.info("Created study %s", spec.study_name)
    return study


def _created_by(name: str, storage: BaseStorage) -> Any:
    return optuna.load_study(study_name=name, storage=storage).user_attrs.get(CREATED_BY)


def stored_distributions(study: optuna.Study) -> dict[str, BaseDistribution]:
    """The last distribution each parameter was sampled from."""
    found: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        found.update(trial.distributions)
    return found


def check_directions(spec: TuningSpec, stored: tuple[str, ...]) -> None:
    """Compare the directions.

    Raises:
        StudyMismatchError: They differ.
    """
    if stored != tuple(spec.directions):
        raise StudyMismatchError(
            f"study {spec.study_name!r} is stored with directions {', '.join(stored)},"
            f" but the study file says {', '.join(spec.directions)}"
        )


def check_search_space(wanted: Mapping[str, BaseDistribution], stored: Mapping[str, BaseDistribution]) -> list[str]:
    """Compare a search space with what the study's trials were sampled from.

    Optuna's samplers live with changed bounds and steps and with added or dropped parameters, but not with
    another kind, scale or set of choices (optuna.distributions.check_distribution_compatibility).

    Returns:
        A line for each difference that is allowed.

    Raises:
        StudyMismatchError: Naming every parameter that cannot go on, as stored and as wanted.
    """
    conflicts: list[str] = []
    notes: list[str] = []
    for name in sorted(wanted.keys() & stored.keys()):
        if wanted[name] == stored[name]:
            continue
        line = f"parameter {name}: stored {describe(stored[name])}, now {describe(wanted[name])}"
        (notes if _compatible(wanted[name], stored[name]) else conflicts).append(line)
    if conflicts:
        raise StudyMismatchError("the stored trials do not fit the search space: " + "; ".join(conflicts))
    if stored:
        notes += [f"parameter {name} is new" for name in wanted if name not in stored]
        notes += [f"parameter {name} is no longer tuned" for name in stored if wanted and name not in wanted]
    return notes


def _compatible(new: BaseDistribution, old: BaseDistribution) -> bool:
    if isinstance(new, FloatDistribution | IntDistribution) and isinstance(old, FloatDistribution | IntDistribution):
        return type(new) is type(old) and new.log == old.log
    return False


def describe(distribution: BaseDistribution) -> str:
    """A distribution in the words of a study file."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(str, distribution.choices))}"
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return str(distribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    step = f", step {distribution.step:g}" if distribution.step not in (None, 1) else ""
    return f"{kind} {distribution.low:g} to {distribution.high:g}{step}{', log' if distribution.log else ''}"


def _summary(study: optuna.Study, mode: str) -> dict[str, Any]:
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    counts = {state.name.lower(): states.count(state) for state in TrialState if state in states}
    log.info("Study %s holds %s trials", study.study_name, len(states))
    return {"study": study.study_name, "mode": mode, "trials": counts}


def _exists(name: str) -> TaskError:
    return TaskError(
        Failure(
            what=f"study {name!r} exists, and mode create must not touch it",
            next="Trigger with mode resume to go on with it, with reset to delete it, or choose another study name.",
        )
    )
