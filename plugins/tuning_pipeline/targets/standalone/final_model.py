"""The task that trains the final model, as one more Spark application with one task on a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tuning_pipeline.failures import Failure
from tuning_pipeline.targets.standalone.operator import TuneOperator
from tuning_pipeline.targets.standalone.scratch import write_private
from tuning_pipeline.targets.standalone.submission import URL_VARIABLE
from tuning_pipeline.tasks.final_model import keep_model, model_order

if TYPE_CHECKING:
    from optuna_spark.spec.tuning import TuningSpec
    from tuning_pipeline.runs.study_run import StudyRun

ORDER, FOLDER = "order.json", "model"


class FinalModelOperator(TuneOperator):
    """Submits the training of the best trial's parameters on all training rows."""

    def spec_of(self, run: StudyRun) -> TuningSpec:
        """The run's spec, with one task."""
        return run.spec.with_changes(tasks=1, trials=1, enqueue=())

    def further_arguments(self, run: StudyRun, scratch: Path) -> list[str]:
        """The order, and where the driver leaves the model."""
        order = write_private(scratch / ORDER, model_order(run, run.storage_url()).to_json())
        return ["--model-order", str(order), "--model-folder", str(scratch / FOLDER)]

    def environment(self, run: StudyRun, scratch: Path) -> Mapping[str, str]:
        """As for the trials, without the database, which this driver does not open."""
        whole = super().environment(run, scratch)
        return {name: value for name, value in whole.items() if name != URL_VARIABLE}

    def ended_well(self, run: StudyRun, scratch: Path) -> None:
        """Keep the model for the export."""
        keep_model(run, scratch / FOLDER)

    def tell_failed_trials(self, run: StudyRun) -> None:
        """Nothing: `tune` has told them."""

    def out_of_time(self) -> Failure:
        """The card of a training that took too long."""
        limit = self.execution_timeout.total_seconds() if self.execution_timeout else 0
        return Failure(
            what=f"the final model was not trained within execution_timeout_s ({limit:g} s)",
            next="Raise execution_timeout_s in the study file, or tune fewer rounds; then clear this task: the trials"
            " are kept.",
            retry=True,  # Airflow tries a task again that ran out of time
        )
