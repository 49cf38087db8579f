"""The `xgboost` section of a study file: how the objective trains and scores a trial. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from optuna_spark.errors import SpecError
from optuna_spark.objectives.xgboost.metric_tables import METRICS
from optuna_spark.spec.decode import from_dict
from optuna_spark.spec.form_fields import plain
from optuna_spark.spec.key import check_limits, key
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.spec.validation import ValidationSpec

NAME = "xgboost"
TRAINING = "XGBoost training"
FORMER = ("holdout", "folds")  # keys that stand in section validation now


@dataclass(frozen=True)
class XGBoostSection:
    """How the built-in `xgboost` objective trains and scores a trial."""

    task: Literal["regression", "binary", "multiclass"] = key(
        "regression",
        "What is predicted; sets XGBoost's own objective unless fixed does.",
        field=plain(TRAINING),
    )
    objective: str | None = key(
        None,
        "What XGBoost minimises in training, such as count:poisson, reg:gamma, reg:tweedie or reg:quantileerror (with"
        " quantile_alpha in fixed). null: reg:squarederror, binary:logistic or multi:softprob.",
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
    holdout: float | None = key(None, "The former place of validation.holdout.", above=0, below=1)
    folds: int | None = key(None, "The former place of validation.folds.", minimum=2, maximum=1_000)
    class_weight: Literal["balanced"] | None = key(
        None,
        "balanced: a row to train on weighs n / (k * c) times its weight, with n rows and k classes in training, and c"
        " rows of its own class among them, as in scikit-learn. Metrics do not count it. null: each class weighs its"
        " rows.",
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
        "XGBoost parameters that are not tuned, such as {booster: dart}. Constraints may name features:"
        " {monotone_constraints: {age: 1}, interaction_constraints: [[age, bmi], [s1, s2]]}.",
        make=dict,
        field=plain(TRAINING, words=(), holds_parameters=True),
    )

    def __post_init__(self) -> None:
        check_limits(self)
        if self.class_weight is not None and self.task == "regression":
            raise SpecError("class_weight is for classes: set task to binary or multiclass, or remove it")


def section_of(spec: TuningSpec) -> XGBoostSection:
    """The section of a run, typed.

    Raises:
        SpecError: A key or a value that it does not take.
    """
    return from_dict(XGBoostSection, spec.objective_section, NAME)


def validation_of(spec: TuningSpec) -> ValidationSpec:
    """The rule by which the rows are divided, whichever section says it.

    Raises:
        SpecError: Both sections say the same thing, or what they say does not fit together or the task.
    """
    section, rule = section_of(spec), spec.validation
    for name in FORMER:
        former = getattr(section, name)
        if former is None:
            continue
        if getattr(rule, name) is not None:
            raise SpecError(f"is given there and as {NAME}.{name}: remove the latter", f"validation.{name}")
        try:
            rule = replace(rule, **{name: former})
        except SpecError as error:
            raise SpecError(str(error), "validation") from None
    if rule.stratify and section.task == "regression":
        raise SpecError("is for classes, and xgboost.task is regression: remove it", "validation.stratify")
    return rule


def balances_classes(spec: TuningSpec) -> bool:
    """Whether each class weighs the same in training."""
    return section_of(spec).class_weight == "balanced"
