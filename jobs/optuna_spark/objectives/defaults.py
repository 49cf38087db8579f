"""Search spaces of the built-in objectives, for studies that name none. Standard library only."""

from __future__ import annotations

from optuna_spark.objectives.xgboost.params import canonical
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

QUADRATIC = {"x": ParamSpec("float", -10, 10)}

XGBOOST = {
    "learning_rate": ParamSpec("float", 1e-3, 0.1, log=True),
    "max_depth": ParamSpec("int", 1, 10),
    "subsample": ParamSpec("float", 0.05, 1.0),
    "colsample_bytree": ParamSpec("float", 0.05, 1.0),
    "min_child_weight": ParamSpec("int", 1, 20),
    # Few values, because the table is quantised once for each.
    "max_bin": ParamSpec("categorical", choices=(64, 128, 256, 512)),
}


def default_search_space(objective: str) -> dict[str, ParamSpec]:
    """The search space of a built-in objective; empty for a user's own, which defines its space by running."""
    return dict({"quadratic": QUADRATIC, "xgboost": XGBOOST}.get(objective, {}))


def effective_search_space(spec: TuningSpec) -> dict[str, ParamSpec]:
    """The search space a study really has: its own, else the default without what `xgboost.fixed` fixes."""
    if spec.search_space:
        return dict(spec.search_space)
    fixed = {canonical(name) for name in spec.xgboost.fixed} if spec.xgboost else set()
    space = default_search_space(spec.objective)
    return {name: param for name, param in space.items() if name not in fixed}
