"""Runs the best trial again on today's data, in a separate study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna

from optuna_spark.spec.sections import StopSpec
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.study_file.study_names import RESCORE


def rescoring(spec: TuningSpec, params: Mapping[str, Any]) -> TuningSpec:
    """The spec of a run with one trial, with these parameters, in a separate study.

    In the real study, its value on other data would mislead the sampler.
    """
    return spec.with_changes(
        study_name=rescore_study(spec.study_name),
        enqueue=(dict(params),),
        trials=1,
        tasks=1,
        stop=StopSpec(max_failures=1, max_retries=spec.stop.max_retries),
    )


def rescore_study(name: str) -> str:
    """The name of the study for the trials of `rescoring`."""
    return f"{name}{RESCORE}"


def rescored_value(study: optuna.Study, run_id: str) -> float | None:
    """The value that this run's `rescoring` found; None if its trial did not complete."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    values = [trial.value for trial in done if trial.user_attrs.get("run_id") == run_id]
    return values[-1] if values else None
