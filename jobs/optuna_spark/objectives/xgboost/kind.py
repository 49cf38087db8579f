"""What is known of the objective `xgboost` before it trains: Airflow imports it, so nothing heavy stands here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from optuna_spark.objectives.kind import ObjectiveKind
from optuna_spark.objectives.xgboost.fixed_params import fixed_params
from optuna_spark.objectives.xgboost.metrics import metrics
from optuna_spark.objectives.xgboost.params import (
    ALLOWED_VALUES,
    OBJECTIVES,
    OTHER_TEXTS,
    canonical,
    check_parameters,
)
from optuna_spark.objectives.xgboost.section import XGBoostSection, section_of
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

SPACE = {
    "learning_rate": ParamSpec("float", 1e-3, 0.1, log=True),
    "max_depth": ParamSpec("int", 1, 10),
    "subsample": ParamSpec("float", 0.05, 1.0),
    "colsample_bytree": ParamSpec("float", 0.05, 1.0),
    "min_child_weight": ParamSpec("int", 1, 20),
    # Few values, because the table is quantised once for each.
    "max_bin": ParamSpec("categorical", choices=(64, 128, 256, 512)),
}


class XGBoostKind(ObjectiveKind):
    """Training of XGBoost on a table."""

    implementation = "optuna_spark.objectives.xgboost.objective:XGBoostObjective"
    trainer = "optuna_spark.objectives.xgboost.final_model:train_model"
    title = "XGBoost"
    section = XGBoostSection
    needs_data = True
    words = (
        *(word for words in (*ALLOWED_VALUES.values(), *OBJECTIVES.values()) for word in words),
        *OTHER_TEXTS,
    )
    init_scripts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "init_optuna_xgboost.sh": ("databricks-xgboost", "databricks-cudf"),
    }

    def default_space(self, spec: TuningSpec) -> dict[str, ParamSpec]:
        """A usual space, without what `xgboost.fixed` fixes."""
        fixed = {canonical(name) for name in section_of(spec).fixed}
        return {name: param for name, param in SPACE.items() if name not in fixed}

    def check(self, spec: TuningSpec) -> None:
        check_parameters(spec)
        metrics(spec)

    def value_names(self, spec: TuningSpec) -> tuple[str, ...]:
        return metrics(spec)

    def fixed_params(self, spec: TuningSpec) -> dict[str, Any]:
        return fixed_params(spec)

    def max_steps(self, spec: TuningSpec) -> int | None:
        tuned, rounds = spec.search_space.get("num_boost_round"), section_of(spec).num_boost_round
        if tuned is None or not tuned.high:
            return rounds
        return max(int(tuned.high), rounds) if tuned.when else int(tuned.high)  # rounds: where it does not exist

    def early_imports(self, spec: TuningSpec) -> tuple[str, ...]:
        """XGBoost takes more than a second of CPU to import.

        It begins nothing that a fork would break; that is known of machines without a GPU only, so runs on GPUs import
        it in each worker.
        """
        return () if spec.resources.gpus_per_task else (self.implementation.partition(":")[0],)
