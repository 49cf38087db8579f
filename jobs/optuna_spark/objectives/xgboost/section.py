"""The `xgboost` section of a study file: how the objective trains and scores a trial. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from optuna_spark.objectives.xgboost.metric_tables import METRICS
from optuna_spark.spec.decode import from_dict
from optuna_spark.spec.form_fields import plain
from optuna_spark.spec.key import check_limits, key
from optuna_spark.spec.tuning import TuningSpec

NAME = "xgboost"
TRAINING = "XGBoost training"


@dataclass(frozen=True)
class XGBoostSection:
    """How the built-in `xgboost` objective trains and scores a trial."""

    task: Literal["regression", "binary", "multiclass"] = key(
        "regression",
        "What is predicted; sets XGBoost's own objective unless fixed does.",
        field=plain(TRAINING),
    )
    metric: str | tuple[str, ...] | None = key(
        None,
        "XGBoost's name of the evaluation metric; a list with several directions. null: rmse, logloss or mlogloss.",
        field=plain(
            TRAINING,
            closed=METRICS,
            closed_suffix=r"@[0-9]{1,6}(\.[0-9]{1,6})?-?",
            schema={"type": ["null", "string", "array"], "items": {"type": "string"}, "maxItems": 100},
        ),
    )
    holdout: float = key(
        0.2,
        "Share of the rows kept for validation; not used with folds.",
        above=0,
        below=1,
        field=plain(TRAINING),
    )
    folds: int | None = key(
        None,
        "Folds of a cross-validation, each trained once in a trial; its value is their mean. null: one training with"
        " the hold-out.",
        minimum=2,
        maximum=1_000,
        field=plain(TRAINING),
    )
    num_boost_round: int = key(
        1000,
        "Boosting rounds of a training, at most: one tree each, or one a class.",
        minimum=1,
        maximum=1_000_000,
        field=plain(TRAINING),
    )
    early_stopping_rounds: int | None = key(
        None,
        "End a training when so many rounds did not improve the (first) metric. null: never.",
        minimum=1,
        maximum=1_000_000,
        field=plain(TRAINING),
    )
    report_every: int = key(
        10,
        "Boosting rounds between two reports to the pruner.",
        minimum=1,
        maximum=1_000_000,
        field=plain(TRAINING),
    )
    # Only names that `params` knows: none of them names a file, a plugin or a device.
    fixed: dict[str, Any] = key(
        None,
        "XGBoost parameters that are not tuned, such as {booster: dart}.",
        make=dict,
        field=plain(TRAINING, words=(), holds_parameters=True),
    )

    def __post_init__(self) -> None:
        check_limits(self)


def section_of(spec: TuningSpec) -> XGBoostSection:
    """The section of a run, typed.

    Raises:
        SpecError: A key or a value that it does not take.
    """
    return from_dict(XGBoostSection, spec.objective_section, NAME)
