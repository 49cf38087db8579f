"""The tasks of a study with a `retune.rule`. They come before prepare_study, and skip a run that has nothing to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from tuning_pipeline.failures import readable_failures
from tuning_pipeline.runs.begin import begin
from tuning_pipeline.tasks.context import SHORT_TASK, run_of

if TYPE_CHECKING:
    import optuna
    from airflow.sdk import Context

    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)

DECIDE = "decide_retune"
# XCom keys: why a run was skipped, and the fingerprint of its data, which export_best_trials stores in the study.
SKIPPED_BECAUSE, FINGERPRINT = "skipped_because", "fingerprint"


def steps(
    study: StudyFile, rescore_best_trial: Callable[[StudyFile], Any], data_fingerprint: Callable[[StudyFile], str]
) -> list[Any]:
    """The tasks that the study's rule needs; none for rule always.

    Args:
        study: The study.
        rescore_best_trial: Makes the target's task that runs the best trial again, for rule drift.
        data_fingerprint: The target's fingerprint of the data, for rule new_data.
    """
    rule = study.settings.retune.rule
    rescore = [rescore_best_trial(study)] if rule == "drift" else []
    return [] if rule == "always" else [*rescore, decide_retune(study, data_fingerprint)]


def decide_retune(study: StudyFile, data_fingerprint: Callable[[StudyFile], str]) -> Any:
    """The task that lets the run go on, or skips the rest of it. The reason is in its log and XCom."""

    @task(task_id=DECIDE, execution_timeout=SHORT_TASK, trigger_rule=TriggerRule.NONE_FAILED)
    @readable_failures
    def decide() -> str:
        from tuning_pipeline.retune.rescoring import rescore_study, rescored_value
        from tuning_pipeline.retune.rules import decide as decide_by_rule

        context = get_current_context()
        run = run_of(study)
        with run.hold_study():
            name = run.study.settings.study
            rescored = _stored(run, rescore_study(name))
            fingerprint = data_fingerprint(run.study) if run.study.settings.retune.rule == "new_data" else ""
            decision = decide_by_rule(
                run.study.settings.retune,
                by_hand=run.asked_for,
                study=_stored(run, name),
                fingerprint=fingerprint,
                rescored=rescored_value(rescored, run.key) if rescored else None,
            )
            context["ti"].xcom_push(key=FINGERPRINT, value=fingerprint)
            if not decision.tune:
                context["ti"].xcom_push(key=SKIPPED_BECAUSE, value=decision.reason)
                raise skipped(f"nothing to tune: {decision.reason}")
        log.info("Tuning: %s", decision.reason)
        return decision.reason

    return decide()


def skip_if_nobody_needs_it(study: StudyFile, context: Context) -> None:
    """Skip the task that runs the best trial again, if no rule will look at its value.

    Raises:
        AirflowSkipException: The run was triggered by hand, or there is no best trial yet that could be run again.
    """
    run = begin(study, context)
    if run.asked_for:
        raise skipped("triggered by hand: the rule is not asked")
    params = best_params(run)
    if not params:
        raise skipped("there is no earlier result")
    if not run.spec.allows(params):
        raise skipped("the best trial does not fit the search space any more: the run tunes")


def skipped(reason: str) -> AirflowSkipException:
    """The exception that skips a task. Airflow tells its text in a folded part of the log: it is logged here, too."""
    log.warning("Skipped: %s", reason)
    return AirflowSkipException(reason)


def best_params(run: StudyRun) -> dict[str, Any]:
    """The parameters of the best trial in the study; empty if there is none."""
    from tuning_pipeline.retune.rules import best_trial

    stored = _stored(run, run.study.settings.study)
    best = best_trial(stored) if stored else None
    return dict(best.params) if best else {}


def noted_fingerprint(context: Context) -> str:
    """The fingerprint that decide_retune stored; empty if the study's rule does not need one."""
    found = context["ti"].xcom_pull(task_ids=DECIDE, key=FINGERPRINT)
    return found if isinstance(found, str) else ""


def _stored(run: StudyRun, name: str) -> optuna.Study | None:
    import optuna

    from optuna_spark.storage.optuna_storage import create_storage

    try:
        return optuna.load_study(study_name=name, storage=create_storage(run.storage_url()))
    except KeyError:
        return None
