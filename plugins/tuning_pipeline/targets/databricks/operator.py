"""The task that runs the trials on Databricks. There is one run at a time, whatever happens to the task."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import requests
from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.providers.databricks.operators.databricks import (
    XCOM_RUN_ID_KEY,
    XCOM_RUN_PAGE_URL_KEY,
    DatabricksSubmitRunOperator,
)
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.sdk.exceptions import AirflowException, AirflowRescheduleException, AirflowTaskTimeout, TaskDeferralTimeout

from optuna_spark.errors import TuningError
from optuna_spark.spec.decode import from_dict
from tuning_pipeline.failures import Failure, as_airflow_error, describe_failure, told_card
from tuning_pipeline.runs.begin import begin, prepared
from tuning_pipeline.study_file.settings import StudySettings
from tuning_pipeline.targets.databricks.failures import killed, run_failure
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.payload import idempotency_token, run_payload
from tuning_pipeline.targets.databricks.workspace.paths import RemoteFiles
from tuning_pipeline.tasks.failed_trials import log_failed_trials
from tuning_pipeline.tasks.partial_export import export_what_finished, is_last_try

if TYPE_CHECKING:
    from airflow.sdk import Context

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile

UPLOAD_TASK = "upload_job_files"
LOG_LINES = 200


def own_pool(settings: StudySettings) -> str:
    """The Airflow pool that the study's file names; empty if it names none: the default is for standalone."""
    return settings.pool if settings.pool != StudySettings().pool else ""


class TuneOnDatabricks(DatabricksSubmitRunOperator):
    """Submits the study's trials as a Databricks run, and waits for it, here or in the triggerer.

    Each attempt has an idempotency token of its own, made from the DAG run and the attempt's number. If the worker or
    the triggerer dies, the next try of the task submits with the same token, and so finds the run that it had started.
    It starts another run only if that one ended without success. This holds for deferrable tasks and others. There is
    no moment in which a run exists that no token leads to, so the provider's `durable` is not needed.

    Args:
        study: The study file. The run's form is applied to it when the task runs.
    """

    def __init__(self, *, study: StudyFile, **kwargs: Any) -> None:
        settings = study.settings
        given = {"pool": pool} if (pool := own_pool(settings)) else {}
        super().__init__(
            databricks_conn_id=settings.connections.databricks,
            deferrable=databricks_settings(settings).deferrable,
            polling_period_seconds=databricks_settings(settings).poll_s,
            durable=False,
            **({"execution_timeout": timedelta(seconds=settings.execution_timeout_s)} | given | kwargs),
        )
        self.study = study
        self.was_killed = False

    def execute(self, context: Context) -> None:
        """Run the trials.

        Raises:
            AirflowFailException: The run failed, and trying again cannot help. The text is the failure card.
            AirflowException: The run failed, and trying again may help.
        """
        try:
            self._run_trials(self.hook(), context)
        except AirflowTaskTimeout:
            # Airflow would cancel the run when it catches this error, which is raised again. But nothing of the run may
            # be at work while it is exported.
            self.log.error("\n%s", told_card(self._out_of_time(), f"{self.task_id} failed"))
            self._end_and_export(context)
            raise

    def _run_trials(self, hook: DatabricksHook, context: Context) -> None:
        try:
            self.run_id = self._submit(hook, context)
            self._push_link(hook, context)
        except AirflowRescheduleException:
            raise  # another run holds the study; this task comes again later
        except (TuningError, AirflowException, requests.RequestException) as error:
            raise self._card(self._explain(error)) from None
        if self.was_killed:
            self.on_kill()  # the signal came before the run's id was known, so on_kill could not cancel it then
        elif self.deferrable:
            self.defer(trigger=self._trigger(), method_name="execute_complete", timeout=self.execution_timeout)
        self._wait(hook, context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Go on once the triggerer has seen the run end. Airflow calls this in a new process."""
        try:
            begin(self.study, context)  # masks the connections' secrets here, too
        except TuningError as error:
            raise self._card(describe_failure(error)) from None
        self.run_id = int(event["run_id"])
        self._finish(self.hook(), context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on when the triggerer gives the task back. If it ran out of time there, its run must be ended here."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            try:
                self._end_runs(context)
            except TuningError as error:
                raise self._card(describe_failure(error)) from None
            self.export_what_finished(context, self._out_of_time())
            raise self._card(self._out_of_time()) from None

    def on_kill(self) -> None:
        """Cancel the run, because Airflow ends this task."""
        self.was_killed = True
        super().on_kill()  # type: ignore[no-untyped-call]  # the provider's

    def hook(self) -> DatabricksHook:
        return DatabricksHook(self.databricks_conn_id, retry_limit=5, retry_delay=1, caller=type(self).__name__)

    def _submit(self, hook: DatabricksHook, context: Context) -> int:
        # Go through the attempts of all earlier tries. Submitting one again only returns its run's id.
        attempts = context["ti"].try_number
        for attempt in range(1, attempts + 1):
            payload = self._payload(context, attempt)
            run_id = hook.submit_run(payload)
            if attempt == attempts or not self._ended_badly(hook, run_id):
                return run_id
            self.log.info("Run %s of an earlier try ended without success", run_id)
        raise AssertionError("a task is in its first try at least")

    def _ended_badly(self, hook: DatabricksHook, run_id: int) -> bool:
        # Two runs at once would both write to the study, so a cancelled one must have ended before the next begins.
        state = hook.get_run_state(run_id)
        while state.life_cycle_state == "TERMINATING":  # the task's execution_timeout limits this wait, too
            self.log.info("Run %s of an earlier try was cancelled: waiting for its end", run_id)
            time.sleep(self.polling_period_seconds)
            state = hook.get_run_state(run_id)
        return bool(state.is_terminal and not state.is_successful)

    def _payload(self, context: Context, attempt: int) -> dict[str, Any]:
        from tuning_pipeline.targets.databricks.payload_check import check_run
        from tuning_pipeline.targets.databricks.workspace.upload import passwordless_url

        run = self.run_of(context)
        # The run keeps the lease until its last task. Other runs see in Airflow that it has not ended, and so leave the
        # lease alone while the job goes on.
        with run.hold_study():
            self.check_study(run)
            spec, files = self.job_of(run, self._files(run))
        token = idempotency_token(f"{self.dag_id}/{run.key}/{self.task_id}/{files.output}", attempt)
        payload = run_payload(run.study, spec, files, token, passwordless_url(run.study))
        check_run(payload)  # Databricks would silently drop a key that it does not know
        return payload

    def run_of(self, context: Any) -> StudyRun:
        """The run that this task belongs to."""
        return prepared(self.study, context)

    def check_study(self, run: StudyRun) -> None:
        """Check that the study is still the one that this run prepared.

        Raises:
            TaskError: A later run has reset the study.
        """
        from tuning_pipeline.database.prepare_study import check_prepared

        if run.study.has_database:
            check_prepared(run.study.settings.study, run.storage_url(), run.key)

    def job_of(self, run: StudyRun, files: RemoteFiles) -> tuple[TuningSpec, RemoteFiles]:
        """The spec for the cluster, and the paths of its files."""
        return run.spec, files

    def _files(self, run: StudyRun) -> RemoteFiles:
        """The paths of the run's files. Not from the upload task's XCom, which whoever triggers the DAG can change."""
        from tuning_pipeline.targets.databricks.workspace.upload import upload_job_files

        return from_dict(RemoteFiles, upload_job_files(run.study, run.key))

    def _push_link(self, hook: DatabricksHook, context: Context) -> None:
        url = hook.get_run_page_url(self._run())
        context["ti"].xcom_push(key=XCOM_RUN_ID_KEY, value=self.run_id)
        context["ti"].xcom_push(key=XCOM_RUN_PAGE_URL_KEY, value=url)
        self.log.info("Run %s: %s", self.run_id, url)

    def _trigger(self) -> DatabricksExecutionTrigger:
        return DatabricksExecutionTrigger(
            run_id=self._run(),
            databricks_conn_id=self.databricks_conn_id,
            polling_period_seconds=self.polling_period_seconds,
            retry_limit=self.databricks_retry_limit,
            retry_delay=self.databricks_retry_delay,
        )

    def _wait(self, hook: DatabricksHook, context: Context) -> None:
        try:
            while not hook.get_run_state(self._run()).is_terminal:
                time.sleep(self.polling_period_seconds)
        except (AirflowException, requests.RequestException) as error:
            raise self._card(self._explain(error)) from None
        self._finish(hook, context)

    def _finish(self, hook: DatabricksHook, context: Any) -> None:
        try:
            run = hook.get_run(self._run())
            output = self._output(hook, run)
            if self.study.has_database:
                log_failed_trials(lambda: begin(self.study, context))
            report = self._report(context) if run["state"].get("result_state") != "SUCCESS" else None
        except (TuningError, AirflowException, requests.RequestException) as error:
            raise self._card(self._explain(error)) from None
        for line in str(output.get("logs", "")).splitlines()[-LOG_LINES:]:
            self.log.info("| %s", line)
        if run["state"].get("result_state") != "SUCCESS":
            if self.was_killed:
                raise self._card(killed(run))
            failure = run_failure(run, output, report)
            self.export_what_finished(context, failure)
            raise self._card(failure)

    def _end_and_export(self, context: Context) -> None:
        """End the run, and export what it has finished, if the task is not tried again."""
        if not is_last_try(context, self._out_of_time()):
            return
        try:
            self._end_runs(context)
        except Exception as error:  # noqa: BLE001  # whatever it is: the task's own failure is the one to show
            self.log.warning("What this run had finished is not exported, because it has not ended: %s", error)
            return
        self.export_what_finished(context, self._out_of_time())

    def export_what_finished(self, context: Any, failure: Failure) -> None:
        """Export what the run has finished, if its trials failed for good: from its database, or the Volume's copy."""
        if not is_last_try(context, failure):
            return
        from tuning_pipeline.targets.databricks.workspace.volume_study import study_copy

        def storage() -> AbstractContextManager[Any]:
            return nullcontext(run.storage_url()) if run.study.has_database else study_copy(run.study)

        try:
            run = self.run_of(context)
            with run.hold_study():
                export_what_finished(run, failure.what, storage)
        except Exception as error:  # noqa: BLE001  # whatever it is: the card of the failure itself is the one to show
            self.log.warning("What this run had finished could not be exported: %s", error)

    def _output(self, hook: DatabricksHook, run: Mapping[str, Any]) -> dict[str, Any]:
        """The output of the run's task; empty if the task never started."""
        tasks = run.get("tasks", [])
        try:
            return hook.get_run_output(tasks[-1]["run_id"]) if tasks else {}
        except DatabricksApiError as error:
            self.log.info("The run has no output: %s", error)
            return {}

    def _report(self, context: Any) -> Mapping[str, str] | None:
        from tuning_pipeline.targets.databricks.workspace.access import failure_report
        from tuning_pipeline.targets.databricks.workspace.upload import run_output

        return failure_report(self.databricks_conn_id, run_output(self.study, begin(self.study, context).key))

    def _end_runs(self, context: Context) -> None:
        from tuning_pipeline.targets.databricks.workspace.runs import end_live_runs
        from tuning_pipeline.targets.databricks.workspace.upload import run_output

        run = begin(self.study, context)
        end_live_runs(run.study, run.key, run_output(run.study, run.key))

    def _run(self) -> int:
        assert self.run_id is not None
        return self.run_id

    def _explain(self, error: Exception) -> Failure:
        from tuning_pipeline.targets.databricks.workspace.access import explain_call

        if isinstance(error, TuningError):
            return describe_failure(error)
        return explain_call(error, self.databricks_conn_id)

    def _card(self, failure: Failure) -> AirflowException:
        return as_airflow_error(failure, f"{self.task_id} failed")

    def _out_of_time(self) -> Failure:
        limit = self.execution_timeout.total_seconds() if self.execution_timeout else 0
        return Failure(
            what=f"the task ran longer than execution_timeout_s ({limit:g} s) and its run was cancelled",
            next="Trigger with mode resume: finished trials are kept. Raise execution_timeout_s in the study file,"
            " or set timeout_s below it, which ends a run in good order.",
            retry=True,
        )
