"""A folder of study files, the broken ones apart from the good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, ParamValidationError

from optuna_spark.errors import SpecError, TuningError
from tuning_pipeline.dag.form import form_params
from tuning_pipeline.dag.notify import load_notifier
from tuning_pipeline.dag.schedule import check_comes, dag_schedule, first_moment
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError, read_study, shown
from tuning_pipeline.study_file.study_names import Clash, clashing_files, clashing_studies, study_paths


@dataclass(frozen=True)
class StudyFolder:
    """What a folder of study files holds: the good studies, and one message for each broken file."""

    studies: tuple[StudyFile, ...]
    errors: tuple[str, ...]


def read_studies(folder: Path) -> StudyFolder:
    """Read every study file of a folder. Two that clash are both broken: which one is meant nobody can know."""
    studies, errors = [], []
    paths = study_paths(folder)
    same_dag = list(clashing_files(paths))
    for path in paths:
        if clashes := _clashes_of(path, same_dag):
            errors += clashes
            continue
        try:
            study = read_study(path)
            _check_for_airflow(study)
            studies.append(study)
        except TuningError as error:
            errors.append(str(error))
        except Exception as error:  # noqa: BLE001  # one file must not take the others' DAGs away; it is shown
            errors.append(f"{shown(path)}: {type(error).__name__}: {error}")
    same_study = list(clashing_studies(studies))
    errors += [message for study in studies for message in _clashes_of(study.path, same_study)]
    good = (study for study in studies if not _clashes_of(study.path, same_study))
    return StudyFolder(tuple(good), tuple(errors))


def _clashes_of(path: Path, clashes: list[Clash]) -> list[str]:
    return [clash.message_for(path) for clash in clashes if path in clash.files]


def _check_for_airflow(study: StudyFile) -> None:
    """What only Airflow can judge: the schedule, and whether defaults fit their form fields.

    Raises:
        StudyFileError: With Airflow's own words.
    """
    settings = study.settings
    try:
        load_notifier(settings.on_failure)
        schedule = dag_schedule(settings)
    except SpecError as error:
        raise StudyFileError(f"{shown(study.path)}: {error}") from None
    try:
        DAG(
            study.dag_id,
            schedule=schedule,
            start_date=first_moment(settings),
            max_active_runs=1,
            auto_register=False,
        ).validate()  # type: ignore[no-untyped-call]  # Airflow left it without
        check_comes(settings.schedule)
    except SpecError as error:
        raise StudyFileError(f"{shown(study.path)}: {error}") from None
    except (AirflowException, ValueError) as error:
        raise StudyFileError(
            f"{shown(study.path)}: schedule: must be a cron expression, a preset such as @daily, or null,"
            f" got {settings.schedule!r}: {error}"
        ) from None
    for name, param in form_params(study).items():
        try:
            param.resolve()
        except ParamValidationError as error:
            raise StudyFileError(f"{shown(study.path)}: {name}: {str(error).splitlines()[0]}") from None
