"""Rule drift on a Spark standalone cluster: the task that runs the best trial again, on today's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuning_pipeline.runs.begin import begin
from tuning_pipeline.targets.standalone.operator import TuneOperator
from tuning_pipeline.tasks.retune import best_params, skip_if_nobody_needs_it

if TYPE_CHECKING:
    from airflow.sdk import Context

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.failures import Failure
    from tuning_pipeline.runs.study_run import StudyRun


class RescoreOperator(TuneOperator):
    """Submits one trial with the best parameters so far, in a separate study."""

    def execute(self, context: Context) -> None:
        """Run the trial, unless no rule will look at it."""
        skip_if_nobody_needs_it(self.study, context)
        super().execute(context)

    def run_of(self, context: Context) -> StudyRun:
        """The run. Its study is not prepared yet."""
        return begin(self.study, context)

    def check_study(self, run: StudyRun) -> None:
        """The trial goes into a separate study, from which trials go that do not fit any more."""
        from tuning_pipeline.retune.rescoring import drop_unfit_rescores, rescoring

        drop_unfit_rescores(rescoring(run.spec, {}), run.storage_url())

    def export_what_finished(self, context: Context, run: StudyRun, failure: Failure) -> None:
        """Nothing to export, for the same reason."""

    def spec_of(self, run: StudyRun) -> TuningSpec:
        """A spec of one trial with the best parameters."""
        from tuning_pipeline.retune.rescoring import rescoring

        return rescoring(run.spec, best_params(run))
