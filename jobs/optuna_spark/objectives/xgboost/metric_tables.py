"""The eval metrics of XGBoost that a study can optimise, and which way is better. Standard library only."""

from __future__ import annotations

DEFAULT = {"regression": "rmse", "binary": "logloss", "multiclass": "mlogloss"}

# By name before the `@`; https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html, `eval_metric`.
SMALLER_IS_BETTER = {
    "regression": (
        "rmse", "rmsle", "mae", "mape", "mphe", "poisson-nloglik", "gamma-nloglik", "gamma-deviance",
        "tweedie-nloglik", "quantile", "logloss",
    ),
    "binary": ("logloss", "error", "rmse", "mae"),
    "multiclass": ("mlogloss", "merror"),
}  # fmt: skip
LARGER_IS_BETTER = {"regression": (), "binary": ("auc", "aucpr"), "multiclass": ("auc", "aucpr")}

METRICS = tuple(
    sorted({n for tables in (SMALLER_IS_BETTER, LARGER_IS_BETTER) for names in tables.values() for n in names})
)

NEEDS_EVERY_CLASS = ("auc", "aucpr")
