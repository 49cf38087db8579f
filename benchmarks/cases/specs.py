"""The TuningSpecs of the engine's runs."""

from __future__ import annotations

from typing import Any

from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec

SPACE = {"x": ParamSpec("float", -10.0, 10.0), "y": ParamSpec("float", -10.0, 10.0)}
# Every contender uses this sampler. It is Optuna's default, so the peers need no setting.
SAMPLER = ComponentSpec("TPESampler")


def engine_spec(objective: str, **changes: Any) -> TuningSpec:
    """A run of one of the functions in benchmarks.workload."""
    settings: dict[str, Any] = {
        "study_name": "bench",
        "objective": f"benchmarks.workload:{objective}",
        "search_space": SPACE,
        "sampler": SAMPLER,
        "run_id": "bench",
    }
    return TuningSpec(**{**settings, **changes})
