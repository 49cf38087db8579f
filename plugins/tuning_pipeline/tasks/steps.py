"""The tasks of a study's DAG that are the same for every target, and the asset of its export."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, get_current_context, task

from tuning_pipeline.failures import readable_failures
from tuning_pipeline.runs.begin import prepared
from tuning_pipeline.tasks.context import SHORT_TASK, run_of
from tuning_pipeline.tasks.failed_trials import log_failed_trials
from tuning_pipeline.tasks.pool import log_holders
from tuning_pipeline.tasks.retune import noted_fingerprint

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)

# XCom key of export_best_trials: whether the result was published, and why.
PUBLISHED = "published"

# How long a fingerprint that no rule asks for may take.
LISTING_S = 60.0

OpenStorage = Callable[["StudyRun"], AbstractContextManager[Any]]


def provision_database(study: StudyFile) -> XComArg:
    """The task that prepares the database: server, database, account and Optuna's tables."""

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def provision_database() -> dict[str, Any]:
        from tuning_pipeline.database.provision import provision
        from tuning_pipeline.database.secret_connections import run_secrets
        from tuning_pipeline.exports.folders.place import check_place

        run = run_of(study)
        check_place(run.study.exports_base())  # what cannot end well should not begin
        run_secrets(run.study.settings)  # a connection that is wrong should fail here, not in `tune` much later
        made = provision(run.study.settings)
        with run.hold_study():  # takes the lease, which needs the database, and keeps it for the next task
            return made

    return provision_database()


def prepare_study(
    study: StudyFile,
    check_can_tune: Callable[[StudyRun], None] | None = None,
    data_fingerprint: Callable[[StudyFile], str] = lambda _study: "",
    pool_tasks: Sequence[str] = (),
) -> XComArg:
    """The task that creates, resumes or resets the study.

    Args:
        study: The study.
        check_can_tune: Called before a reset. Raises a TaskError if `tune` could not run, so that nothing is reset.
        data_fingerprint: The target's fingerprint of the data.
        pool_tasks: The tasks that use the study's Airflow pool; its log says who holds the pool. The next one is first.
    """

    @task(execution_timeout=SHORT_TASK)
    @readable_failures
    def prepare_study() -> dict[str, Any]:
        from tuning_pipeline.database.prepare_study import prepare_study as prepare
        from tuning_pipeline.runs.settings import keep_settings

        run = run_of(study)
        fingerprint = noted_fingerprint(get_current_context()) or known_fingerprint(run.study, data_fingerprint)
        with run.hold_study():
            if run.mode == "reset" and check_can_tune is not None:
                check_can_tune(run)
            url, context = run.storage_url(), get_current_context()
            made = prepare(run.spec, url, run.mode, keep_settings(run, context))
            note_facts(run, url, fingerprint)
        if pool_tasks:
            log_holders(run.study, pool_tasks, context["ti"])
        return made

    return prepare_study()


def known_fingerprint(study: StudyFile, data_fingerprint: Callable[[StudyFile], str]) -> str:
    """The fingerprint of the data, for the record; empty where Airflow cannot look at the data.

    No rule of the study asks for it, so neither what a store's library raises nor the time it takes may end the run.
    """
    found, problem = [""], [f"listing the data takes longer than {LISTING_S:g} s"]

    def look() -> None:
        try:
            found[0], problem[0] = data_fingerprint(study), ""
        except Exception as error:  # noqa: BLE001  # see above
            problem[0] = str(error).splitlines()[0] if str(error) else type(error).__name__

    thread = threading.Thread(target=look, daemon=True, name="fingerprint")
    thread.start()
    thread.join(LISTING_S)
    if problem[0]:
        log.info("The data's fingerprint is not noted: %s", problem[0])
    return found[0]


def note_facts(run: StudyRun, url: Any, fingerprint: str) -> None:
    """Note in the study what this run trains on and with."""
    from optuna_spark.storage.optuna_storage import opened_storage
    from tuning_pipeline.exports.training_facts import note_training

    with opened_storage(url) as storage:
        note_training(run, storage, fingerprint)


def export_best_trials(study: StudyFile, open_storage: OpenStorage | None = None) -> XComArg:
    """The task that writes the export (tables, report, best_params.json), and emits the asset event.

    Args:
        study: The study.
        open_storage: Opens the storage with the study, and gives its URL; by default that of the study's database.
    """
    asset = best_params_asset(study.settings.study)
    # Airflow makes an event for each asset in `outlets`, but for an alias only if the task adds one.
    when_better = AssetAlias(asset.name) if study.settings.retune.publish == "better" else None

    @task(
        execution_timeout=SHORT_TASK,
        outlets=[when_better or asset],
        inlets=[asset] if when_better else [],
        doc_json=json.dumps(for_pages(study)),
    )
    @readable_failures
    def export_best_trials() -> dict[str, Any]:
        from tuning_pipeline.exports.export_run import export_run
        from tuning_pipeline.exports.published import Verdict, note_if_better, note_published
        from tuning_pipeline.exports.retention import remove_old_exports
        from tuning_pipeline.tracking.catch_up import catch_up

        context = get_current_context()
        run = prepared(study, context)
        with run.hold_study(last=True), (open_storage or _in_database)(run) as url:
            if not run.study.has_database:  # else the task with the trials has told them
                log_failed_trials(lambda: run, url)
            exported = export_run(run, url, noted_fingerprint(context))
            best, place = exported.best, (run.study.exports_base(), run.study.settings.study)
            if not exported.newest:
                verdict = Verdict(False, "another run has worked on the study since")
            elif run.study.settings.study != study.settings.study:
                verdict = Verdict(False, f"{asset.name} is the asset of study {study.settings.study}")
            elif when_better is None:
                verdict = Verdict(True, "publish is always")
                note_published(*place, best)
                context["outlet_events"][asset].extra = best
            else:
                verdict = note_if_better(*place, best, context["inlet_events"][asset], exported.again)
                if verdict.publish:
                    context["outlet_events"][when_better].add(asset, extra=best)
            if not verdict.publish:
                context["task"].outlets = []  # otherwise Airflow would make an event
            log.info("Asset event of %s %s", asset.name, verdict)
            context["ti"].xcom_push(key=PUBLISHED, value=str(verdict))
            if exported.newest:
                remove_old_exports(*place, run.study.settings.keep_exports)
            catch_up(run, url)
        return {key: best[key] for key in ("study", "value", "trial", "folder")}

    return export_best_trials()


def for_pages(study: StudyFile) -> dict[str, Any]:
    """What the pages inside Airflow must know of a study. Nobody but the study file's author can change it."""
    settings = study.settings
    return {
        "study": settings.study,
        "exports": study.exports_base(),
        "database": settings.connections.database if study.has_database else "",
        "databricks": settings.connections.databricks if settings.target == "databricks" else "",
        "trials": settings.trials,
        "runs": study.runs_folder,
    }


def best_params_asset(study_name: str) -> Asset:
    """The asset of a study. Its events carry the best value and parameters."""
    return Asset(f"best_params_{study_name}")


def _in_database(run: StudyRun) -> AbstractContextManager[Any]:
    return nullcontext(run.storage_url())
