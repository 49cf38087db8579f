"""The tasks of a study with a `retune.rule`: they stand before prepare_study and skip a run that has nothing to do."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from tuning_pipeline.failures import readable_failures
from tuning_pipeline.runs.begin import begin
from tuning_pipeline.targets.standalone.operator import TuneOperator
from tuning_pipeline.tasks import steps as tasks

if TYPE_CHECKING:
    import optuna
    from airflow.sdk import Context

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.begin import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)

DECIDE = "decide_retune"
# XCom key under which a skipped run says why, and under which export_best_trials finds what was tuned on.
SKIPPED_BECAUSE, FINGERPRINT = "skipped_because", "fingerprint"


def steps(study: StudyFile) -> list[Any]:
    """The tasks the study's rule needs; none for rule always."""
    rule = study.settings.retune.rule
    rescore = [rescore_best_trial(study)] if rule == "drift" else []
    return [] if rule == "always" else [*rescore, decide_retune(study)]


def decide_retune(study: StudyFile) -> Any:
    """Go on, or skip the rest of the run with the reason in log and XCom."""

    @task(task_id=DECIDE, execution_timeout=tasks.SHORT_TASK, trigger_rule=TriggerRule.NONE_FAILED)
    @readable_failures
    def decide() -> str:
        from tuning_pipeline.retune import rules as retune

        context = get_current_context()
        run = tasks.run_of(study)
        with run.hold_study():
            name = run.study.settings.study
            rescored = _stored(run, retune.rescore_study(name))
            fingerprint = _fingerprint(run.study) if run.study.settings.retune.rule == "new_data" else ""
            decision = retune.decide(
                run.study.settings.retune,
                by_hand=run.asked_for,
                study=_stored(run, name),
                fingerprint=fingerprint,
                rescored=retune.rescored_value(rescored, run.key) if rescored else None,
            )
            context["ti"].xcom_push(key=FINGERPRINT, value=fingerprint)
            if not decision.tune:
                context["ti"].xcom_push(key=SKIPPED_BECAUSE, value=decision.reason)
                raise AirflowSkipException(f"nothing to tune: {decision.reason}")
        log.info("Tuning: %s", decision.reason)
        return decision.reason

    return decide()


def rescore_best_trial(study: StudyFile) -> TuneOperator:
    """The best trial once more, on today's data."""
    limit = timedelta(seconds=study.settings.execution_timeout_s)
    return RescoreOperator(task_id="rescore_best_trial", study=study, execution_timeout=limit, pool=study.settings.pool)


class RescoreOperator(TuneOperator):
    """Submit one trial with the best parameters so far, into a study beside the real one."""

    def execute(self, context: Context) -> None:
        """Run it, unless nobody needs it."""
        skip_if_nobody_needs_it(self.study, context)
        super().execute(context)

    def run_of(self, context: Context) -> StudyRun:
        """The run, before its study is prepared."""
        return begin(self.study, context)

    def check_study(self, run: StudyRun) -> None:
        """The trial goes into a study of its own."""

    def spec_of(self, run: StudyRun) -> TuningSpec:
        """One trial with the best parameters."""
        from tuning_pipeline.retune.rules import rescoring

        return rescoring(run.spec, best_params(run))


def skip_if_nobody_needs_it(study: StudyFile, context: Context) -> None:
    """Only a rule asks what the best trial is worth today.

    Raises:
        AirflowSkipException: The run was triggered by hand, or there is no best trial yet.
    """
    run = begin(study, context)
    if run.asked_for:
        raise AirflowSkipException("triggered by hand: the rule is not asked")
    if not best_params(run):
        raise AirflowSkipException("there is no earlier result")


def best_params(run: StudyRun) -> dict[str, Any]:
    """Parameters of the best trial in the study's database; none without one."""
    from tuning_pipeline.retune.rules import best_trial

    stored = _stored(run, run.study.settings.study)
    best = best_trial(stored) if stored else None
    return dict(best.params) if best else {}


def _fingerprint(study: StudyFile) -> str:
    if study.settings.target == "databricks":
        from tuning_pipeline.targets.databricks.rescore import data_fingerprint

        return data_fingerprint(study)
    from tuning_pipeline.retune.rules import data_fingerprint as fingerprint

    return fingerprint(study.settings.data)


def _stored(run: StudyRun, name: str) -> optuna.Study | None:
    import optuna

    from optuna_spark.storage.optuna_storage import create_storage

    try:
        return optuna.load_study(study_name=name, storage=create_storage(run.storage_url()))
    except KeyError:
        return None
