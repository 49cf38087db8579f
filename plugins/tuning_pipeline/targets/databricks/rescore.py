"""Rule drift on Databricks: the task that runs the best trial again, on today's data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tuning_pipeline.retune.rescoring import drop_unfit_rescores, rescoring
from tuning_pipeline.runs.begin import begin
from tuning_pipeline.targets.databricks.operator import TuneOnDatabricks
from tuning_pipeline.targets.databricks.workspace.upload import upload_spec
from tuning_pipeline.tasks.retune import best_params, skip_if_nobody_needs_it

if TYPE_CHECKING:
    from airflow.sdk import Context

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.failures import Failure
    from tuning_pipeline.runs.study_run import StudyRun
    from tuning_pipeline.targets.databricks.workspace.paths import RemoteFiles


class RescoreOnDatabricks(TuneOnDatabricks):
    """Submits one trial with the best parameters so far, in a separate study."""

    def execute(self, context: Context) -> None:
        """Run the trial, unless no rule will look at it."""
        skip_if_nobody_needs_it(self.study, context)
        super().execute(context)

    def run_of(self, context: Any) -> StudyRun:
        """The run. Its study is not prepared yet."""
        return begin(self.study, context)

    def job_of(self, run: StudyRun, files: RemoteFiles) -> tuple[TuningSpec, RemoteFiles]:
        """A spec of one trial with the best parameters."""
        spec = rescoring(run.spec, best_params(run))
        return spec, dataclasses.replace(files, spec=upload_spec(run.study, spec))

    def check_study(self, run: StudyRun) -> None:
        """The trial goes into a separate study, from which trials go that do not fit any more."""
        drop_unfit_rescores(rescoring(run.spec, {}), run.storage_url())

    def export_what_finished(self, context: Any, failure: Failure) -> None:
        """Nothing to export: the trial goes into a separate study."""
