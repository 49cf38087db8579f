"""How XGBoost trains."""

from __future__ import annotations

from optuna_spark.objectives.xgboost.metrics import LARGER_IS_BETTER, SMALLER_IS_BETTER
from tuning_pipeline.study_file.fields.field import OBJECT, TRAINING, FormField, Reach, int_schema, number_schema

# What a run may name.
METRICS = tuple(
    sorted({n for tables in (SMALLER_IS_BETTER, LARGER_IS_BETTER) for names in tables.values() for n in names})
)

XGBOOST = (
    FormField(
        "xgboost.task",
        "What is predicted.",
        {"type": "string", "enum": ["regression", "binary", "multiclass"]},
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.metric",
        "XGBoost's name of the evaluation metric, for each direction one a line. Empty: rmse, logloss or mlogloss.",
        {"type": ["null", "string", "array"], "items": {"type": "string"}, "maxItems": 100},
        Reach.NOTHING,
        TRAINING,
        closed=METRICS,
    ),
    FormField(
        "xgboost.holdout",
        "Share of the rows kept for validation; not used with folds.",
        number_schema(exclusiveMinimum=0, exclusiveMaximum=1),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.folds",
        "Folds of a cross-validation, each trained once in a trial. Empty: one training with the hold-out.",
        int_schema(2, 1_000, null=True),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.num_boost_round",
        "Boosting rounds of a training, at most: one tree each, or one a class.",
        int_schema(1, 1_000_000),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.early_stopping_rounds",
        "End a training when so many rounds brought nothing. Empty: never.",
        int_schema(1, 1_000_000, null=True),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.report_every",
        "Boosting rounds between two reports to the pruner.",
        int_schema(1, 1_000_000),
        Reach.NOTHING,
        TRAINING,
    ),
    # Only names that optuna_spark.objectives.xgboost.params knows: none of them names a file, a plugin or a device.
    FormField(
        "xgboost.fixed",
        'XGBoost parameters that are not tuned, such as {"booster": "dart"}.',
        OBJECT,
        Reach.NOTHING,
        TRAINING,
    ),
)
