"""The task that runs the trials as a Spark application. The password is only in its driver's environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout

from optuna_spark.errors import TuningError
from tuning_pipeline.failures import Failure, as_airflow_error, describe_failure, driver_failure, told_card
from tuning_pipeline.runs.begin import prepared
from tuning_pipeline.study_file.own_code import shown_code
from tuning_pipeline.targets.package import code_of, pack_package, ship
from tuning_pipeline.targets.standalone.cluster import check_cluster, master_of, require_cluster
from tuning_pipeline.targets.standalone.driver_end import end_application
from tuning_pipeline.targets.standalone.links import SparkLink, StudyLink, show_links, spark_page
from tuning_pipeline.targets.standalone.metrics import trial_metrics
from tuning_pipeline.targets.standalone.refused import refused_submission
from tuning_pipeline.targets.standalone.scratch import scratch_folder, write_private
from tuning_pipeline.targets.standalone.submission import (
    FAILURE_FILE,
    PROGRESS_FILE,
    Submission,
    driver_environment,
    submission,
)
from tuning_pipeline.tasks.failed_trials import log_failed_trials
from tuning_pipeline.tasks.partial_export import export_what_finished, is_last_try

if TYPE_CHECKING:
    from airflow.sdk import Context

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.study_file.study_file import StudyFile

# `retry` is right in every case: Airflow ignores the end of a task that was marked, cleared or deleted meanwhile.
_KILLED = Failure(
    what="this task was ended from outside: it was marked or cleared, or Airflow is being stopped",
    next="Nothing where Airflow is stopped: once it is back, the task is tried again and goes on with its trials. A run"
    " that was marked or deleted goes on when it is triggered again with mode resume.",
    retry=True,
)


class TuneOperator(SparkSubmitOperator):
    """Submits the study's trials to the Spark cluster, and waits for them.

    Args:
        study: The study file. The run's form is applied to it when the task runs.
    """

    operator_extra_links = (StudyLink(), SparkLink())

    def __init__(self, *, study: StudyFile, **kwargs: Any) -> None:
        super().__init__(conn_id=study.settings.connections.spark, **kwargs)
        self.study = study
        self.spark_page = ""
        self.spec_file = ""
        self.was_killed = False

    def execute(self, context: Context) -> None:
        """Run the application.

        Raises:
            AirflowFailException: It failed, and trying again cannot help. The text is the failure card.
            AirflowException: It failed, and trying again may help.
        """
        try:
            run = self.run_of(context)
            with run.hold_study(), scratch_folder() as scratch:
                failure = self._failure_of(context, scratch, run)
                self.tell_failed_trials(run)
                if failure is not None:
                    self.export_what_finished(context, run, failure)
                    raise as_airflow_error(failure, f"{self.task_id} failed")
                self.ended_well(run, scratch)
            return
        except TuningError as error:
            failure = describe_failure(error)
        raise as_airflow_error(failure, f"{self.task_id} failed")

    def run_of(self, context: Context) -> StudyRun:
        """The run that this task belongs to."""
        return prepared(self.study, context)

    def tell_failed_trials(self, run: StudyRun) -> None:
        """Log why trials of the run failed."""
        log_failed_trials(lambda: run)

    def ended_well(self, run: StudyRun, scratch: Path) -> None:
        """Called when the application ended well, with the folder that holds what its driver wrote."""

    def _failure_of(self, context: Context, scratch: Path, run: StudyRun) -> Failure | None:
        report = write_private(scratch / FAILURE_FILE, "")
        try:
            self._prepare(context, scratch, run)
        except TuningError as error:
            return describe_failure(error)
        try:
            with trial_metrics(run.study.settings.study, scratch / PROGRESS_FILE):
                super().execute(context)
        except AirflowException as error:
            if self.was_killed:
                return _KILLED
            told = _read_report(report)
            refused = None if told else refused_submission(str(error))  # its text ends with Spark's output
            return refused or driver_failure(told, where="Spark's output above, and the Spark UI")
        except KeyboardInterrupt:  # Ctrl-C in `airflow dags test`
            self.on_kill()
            raise
        except AirflowTaskTimeout:
            # Airflow would end the application when it catches this error, which is raised again. But nothing of the
            # run may be at work while it is exported.
            self.log.error("\n%s", told_card(self.out_of_time(), f"{self.task_id} failed"))
            self.on_kill()
            self.export_what_finished(context, run, self.out_of_time())
            raise
        finally:
            self.env_vars = None  # the password must not stay in a field of the operator
        return None

    def export_what_finished(self, context: Context, run: StudyRun, failure: Failure) -> None:
        """Export what a run has finished whose trials failed for good; not where somebody ended the task."""
        if failure is not _KILLED and is_last_try(context, failure):
            export_what_finished(run, failure.what, lambda: nullcontext(run.storage_url()))

    def on_kill(self) -> None:
        """End the Spark application, because Airflow ends this task. Airflow may call this several times."""
        if self.was_killed:
            return
        self.was_killed = True
        end_application(self.spec_file, self.log)
        super().on_kill()

    def out_of_time(self) -> Failure:
        """The card of a task that took too long."""
        limit = self.execution_timeout.total_seconds() if self.execution_timeout else 0
        return Failure(
            what=f"the task ran longer than execution_timeout_s ({limit:g} s) and was ended",
            next="Trigger with mode resume: finished trials are kept. Raise execution_timeout_s in the study file,"
            " or set timeout_s below it, which ends a run in good order.",
            retry=True,  # Airflow tries a task again that ran out of time
        )

    def _prepare(self, context: Context, scratch: Path, run: StudyRun) -> None:
        from tuning_pipeline.database.secret_connections import run_secrets

        study = run.study
        spark = require_cluster(study)
        self.spark_page = spark_page(spark, master_of(spark))
        show_links(self, context)
        check_cluster(spark)  # before anything is written or submitted
        self.check_study(run)
        package = pack_package(scratch / "optuna_spark.zip")
        package.chmod(0o600)
        spec = self.spec_of(run)
        if code := code_of(study):
            ship(code, scratch)
            self.log.info("Travels to driver and workers: %s", shown_code(code))
        secrets = run_secrets(study.settings)
        spec_file = write_private(scratch / "spec.json", spec.to_json())
        self.spec_file = str(spec_file)
        secrets_file = write_private(scratch / "secrets.json", secrets.to_json()) if secrets else None
        self._take(submission(study, spec, package, spec_file, secrets_file))
        self.application_args = [*(self.application_args or []), *self.further_arguments(run, scratch)]
        self.env_vars = dict(self.environment(run, scratch))

    def further_arguments(self, run: StudyRun, scratch: Path) -> list[str]:
        """What the application is given besides the spec."""
        return []

    def environment(self, run: StudyRun, scratch: Path) -> Mapping[str, str]:
        """The environment variables of the driver, the database's password in one of them."""
        secret_url = run.storage_url().render_as_string(hide_password=False)
        return driver_environment(secret_url, scratch, self.spark_page)

    def check_study(self, run: StudyRun) -> None:
        """Check that the study is still the one that this run prepared.

        Raises:
            TaskError: A later run has reset the study.
        """
        from tuning_pipeline.database.prepare_study import check_prepared

        check_prepared(run.study.settings.study, run.storage_url(), run.key)

    def spec_of(self, run: StudyRun) -> TuningSpec:
        """The spec that the application runs."""
        from tuning_pipeline.retune.first_tries import with_first_tries

        return with_first_tries(run.spec, run.study)

    def _take(self, given: Submission) -> None:
        self.application = given.application
        self.application_args = given.application_args
        self.conf = dict(given.conf)
        self.name = given.name
        self.py_files = given.py_files
        if given.archives:
            self.conf["spark.archives"] = given.archives


def _read_report(path: Path) -> Mapping[str, str] | None:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None
