"""The best trial once more on today's data, in a study beside the real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from optuna_spark.spec.sections import StopSpec
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.study_file.study_names import RESCORE


def rescoring(spec: TuningSpec, params: Mapping[str, Any]) -> TuningSpec:
    """A run of one trial with these parameters, in a study beside the real one."""
    return spec.with_changes(
        study_name=rescore_study(spec.study_name),
        enqueue=(dict(params),),
        trials=1,
        tasks=1,
        stop=StopSpec(max_failures=1, max_retries=spec.stop.max_retries),
    )


def rescore_study(name: str) -> str:
    """Name of the study that holds the trials of `rescoring`."""
    return f"{name}{RESCORE}"


def rescored_value(study: optuna.Study, run_id: str) -> float | None:
    """What this run's `rescoring` found; None when its trial did not complete."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    values = [trial.value for trial in done if trial.user_attrs.get("run_id") == run_id]
    return values[-1] if values else None
