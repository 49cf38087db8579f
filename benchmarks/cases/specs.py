"""The engine's runs as TuningSpecs."""

from __future__ import annotations

from typing import Any

from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec

SPACE = {"x": ParamSpec("float", -10.0, 10.0), "y": ParamSpec("float", -10.0, 10.0)}
# The sampler of every contender: Optuna's default, so that plain Optuna and the peers need no setting.
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
