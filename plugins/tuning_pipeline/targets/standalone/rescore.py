"""Rule drift on a Spark standalone cluster: the best trial once more, on today's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuning_pipeline.runs.begin import begin
from tuning_pipeline.targets.standalone.operator import TuneOperator
from tuning_pipeline.tasks.retune import best_params, skip_if_nobody_needs_it

if TYPE_CHECKING:
    from airflow.sdk import Context

    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.study_run import StudyRun


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
        from tuning_pipeline.retune.rescoring import rescoring

        return rescoring(run.spec, best_params(run))
