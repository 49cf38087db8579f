"""The tasks of a study's DAG, in their order."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, get_current_context, task

from tuning_pipeline.failures import readable_failures
from tuning_pipeline.form import mode_of
from tuning_pipeline.operator import TuneOperator
from tuning_pipeline.runs import begin

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from tuning_pipeline.study_file import StudyFile

OpenStorage = Callable[["StudyFile"], AbstractContextManager[Any]]
SHORT_TASK = timedelta(minutes=30)


def provision_database(study: StudyFile) -> XComArg:
    """Server up, database, least-privilege account, Optuna's tables."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def provision_database() -> dict[str, Any]:
        from tuning_pipeline.database import provision
        from tuning_pipeline.secret_connections import run_secrets

        settings = run_of(study)[0].settings
        run_secrets(settings)  # the task that needs them comes late
        return provision(settings)

    return provision_database()


def prepare_study(study: StudyFile) -> XComArg:
    """Create, resume or reset the study."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def prepare_study() -> dict[str, Any]:
        from tuning_pipeline.study import prepare_study as prepare

        run, run_id, mode = run_of(study)
        return prepare(run.to_spec(run_id), storage_of(run), mode)

    return prepare_study()


def tune(study: StudyFile) -> TuneOperator:
    """The trials, on Spark."""
    limit = timedelta(seconds=study.settings.execution_timeout_s)
    return TuneOperator(task_id="tune", study=study, execution_timeout=limit, pool=study.settings.pool)


def export_best_trials(study: StudyFile, open_storage: OpenStorage | None = None) -> XComArg:
    """Tables, report and best_params.json; the asset event tells others.

    Args:
        study: The study.
        open_storage: Where the run left the study; by default in the database.
    """
    asset = best_params_asset(study.settings.study)
    # An asset among the outlets gets an event in any case; an alias only when one is added.
    when_better = AssetAlias(asset.name) if study.settings.retune.publish == "better" else None

    @task(
        execution_timeout=SHORT_TASK,
        outlets=[when_better or asset],
        inlets=[asset] if when_better else [],
        # Where the page with the run's report finds it; nobody but the study file's author can change this.
        doc_json=json.dumps({"study": study.settings.study, "exports": study.exports_base()}),
    )
    @readable_failures
    def export_best_trials() -> dict[str, Any]:
        from optuna_spark.storage import create_storage
        from tuning_pipeline.export import export_study
        from tuning_pipeline.published import note_if_better, note_published
        from tuning_pipeline.retention import remove_old_exports

        run, run_id, _ = run_of(study)
        with (open_storage or _in_database)(run) as url:
            stored = _stored_study(run, create_storage(url))
            best = export_study(stored, run.exports_base(), run_id, run.settings.top_k)
            _remember_data(stored)
        context = get_current_context()
        place = run.exports_base(), run.settings.study
        if when_better is None:
            note_published(*place, best)
            context["outlet_events"][asset].extra = best
        elif note_if_better(*place, best, context["inlet_events"][asset]):
            context["outlet_events"][when_better].add(asset, extra=best)
        remove_old_exports(*place, run.settings.keep_exports)
        return {key: best[key] for key in ("study", "value", "trial", "folder")}

    return export_best_trials()


def _remember_data(stored: Any) -> None:
    """Note in the study what it was tuned on, for rule new_data."""
    from tuning_pipeline.retune import TUNED_ON

    context = get_current_context()
    fingerprint = context["ti"].xcom_pull(task_ids="decide_retune", key="fingerprint")
    if fingerprint and isinstance(fingerprint, str):
        stored.set_user_attr(TUNED_ON, fingerprint)


def best_params_asset(study_name: str) -> Asset:
    """The asset whose events carry the best value and parameters of a study."""
    return Asset(f"best_params_{study_name}")


def run_of(study: StudyFile) -> tuple[StudyFile, str, str]:
    """The study as this run's form changed it, the run's id, and what to do with a study that exists."""
    context = get_current_context()
    run = begin(study, context)
    mode = mode_of(context["params"]) if by_hand(context) else study.settings.retune.mode
    return run, context["dag_run"].run_id, mode


def by_hand(context: Context) -> bool:
    """Whether somebody triggered the run: a person, a script, `airflow dags test`."""
    return context["dag_run"].run_type == "manual"


def storage_of(study: StudyFile) -> Any:
    """Storage URL of the study's database, password and all: never log it."""
    from tuning_pipeline.connections import database_connection, storage_url

    return storage_url(database_connection(study.settings.connections.database))


def _in_database(study: StudyFile) -> AbstractContextManager[Any]:
    return nullcontext(storage_of(study))


def _stored_study(study: StudyFile, storage: Any) -> Any:
    import optuna

    return optuna.load_study(study_name=study.settings.study, storage=storage)
