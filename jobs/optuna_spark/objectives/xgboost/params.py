"""The parameters XGBoost reads, so that a name it would ignore is an error and not a silence.

Standard library only: Airflow checks a study file with it. Names and their conditions:
https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html, tried against XGBoost 3.2 by the tests.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.objectives.xgboost.section import section_of
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

ALIASES = {
    "eta": "learning_rate",
    "min_split_loss": "gamma",
    "reg_lambda": "lambda",
    "reg_alpha": "alpha",
    "random_state": "seed",
}

# Not parameters of a booster: this package's own, but worth tuning.
ENGINE = frozenset({"num_boost_round", "early_stopping_rounds"})

WHOLE = ENGINE | {
    "max_depth", "max_leaves", "max_bin", "num_parallel_tree", "max_cached_hist_node", "seed", "verbosity",
    "max_cat_to_onehot", "max_cat_threshold",
}  # fmt: skip

TREE = WHOLE | {
    "learning_rate", "gamma", "min_child_weight", "max_delta_step", "subsample", "sampling_method",
    "colsample_bytree", "colsample_bylevel", "colsample_bynode", "lambda", "alpha", "grow_policy", "tree_method",
    "monotone_constraints", "interaction_constraints", "base_score", "booster", "objective", "seed_per_iteration",
}  # fmt: skip

DART = frozenset({"sample_type", "normalize_type", "rate_drop", "one_drop", "skip_drop"})

# Read by some training objectives only.
BY_OBJECTIVE = {
    "huber_slope": {"reg:pseudohubererror"},
    "quantile_alpha": {"reg:quantileerror"},
    "tweedie_variance_power": {"reg:tweedie"},
    "scale_pos_weight": {
        "reg:squarederror",
        "reg:logistic",
        "reg:gamma",
        "binary:logistic",
        "binary:logitraw",
    },
    "multi_strategy": {"multi:softprob", "multi:softmax"},
}

OBJECTIVES = {
    "regression": (
        "reg:squarederror", "reg:squaredlogerror", "reg:logistic", "reg:pseudohubererror", "reg:absoluteerror",
        "reg:quantileerror", "reg:gamma", "reg:tweedie", "count:poisson",
    ),
    "binary": ("binary:logistic", "binary:logitraw", "binary:hinge"),
    "multiclass": ("multi:softprob", "multi:softmax"),
}  # fmt: skip

ALLOWED_VALUES = {"booster": ("gbtree", "dart"), "tree_method": ("hist", "auto")}

# Texts that a parameter may have, beside those above.
OTHER_TEXTS = (
    "depthwise", "lossguide", "uniform", "gradient_based", "weighted", "tree", "forest", "one_output_per_tree",
    "multi_output_tree",
)  # fmt: skip

# Names people write, and what does what they mean.
INSTEAD = {
    "max_bins": "max_bin", "num_estimators": "num_boost_round", "n_estimators": "num_boost_round",
    "num_round": "num_boost_round", "num_rounds": "num_boost_round", "nrounds": "num_boost_round",
    "iterations": "num_boost_round", "reg_gamma": "gamma", "num_leaves": "max_leaves", "depth": "max_depth",
    "feature_fraction": "colsample_bytree", "bagging_fraction": "subsample", "silent": "verbosity",
    "colsample": "colsample_bytree", "l1": "alpha", "l2": "lambda", "lr": "learning_rate",
}  # fmt: skip

SET_ELSEWHERE = {
    "device": "resources.gpus_per_task", "gpu_id": "resources.gpus_per_task",
    "predictor": "resources.gpus_per_task", "nthread": "resources.cpus_per_task",
    "nthreads": "resources.cpus_per_task", "n_jobs": "resources.cpus_per_task",
    "eval_metric": "xgboost.metric", "num_class": "xgboost.task", "maximize": "directions",
}  # fmt: skip


def canonical(name: str) -> str:
    """The one name of a parameter that has several."""
    return ALIASES.get(name, name)


def check_parameters(spec: TuningSpec) -> None:
    """Check names and values of the tuned and the fixed parameters of objective `xgboost`.

    Args:
        spec: The run, with its effective search space.

    Raises:
        SpecError: XGBoost would ignore a name, or something else decides it, or it is given twice.
    """
    xgboost, search_space = section_of(spec), spec.search_space
    tuned = {name: _tuned_values(param) for name, param in search_space.items()}
    fixed = {name: (value,) for name, value in xgboost.fixed.items()}
    given = {canonical(n): v for n, v in (tuned | fixed).items()}
    for key, values in (("search_space", tuned), ("xgboost.fixed", fixed)):
        for name in values:
            _check_name(name, f"{key}.{name}")
            _check_condition(canonical(name), given, xgboost.task, f"{key}.{name}")
            _check_values(canonical(name), values[name], xgboost.task, f"{key}.{name}")
    _check_twice([*tuned, *fixed])
    for name, param in search_space.items():
        if canonical(name) in WHOLE and param.type == "float":
            raise SpecError("XGBoost wants a whole number: use type int", f"search_space.{name}")
    for name in ENGINE & set(fixed):
        raise SpecError(f"set xgboost.{name} instead", f"xgboost.fixed.{name}")


def _tuned_values(param: ParamSpec) -> tuple[Any, ...]:
    return param.choices if param.type == "categorical" else ()


def _check_name(name: str, key: str) -> None:
    valid = {*TREE, *DART, *BY_OBJECTIVE, *ALIASES}
    if name in valid:
        return
    if name in SET_ELSEWHERE:
        raise SpecError(f"is decided elsewhere: set {SET_ELSEWHERE[name]} instead", key)
    near = difflib.get_close_matches(name, valid, n=1)
    right = INSTEAD.get(name) or (near[0] if near else None)
    hint = f"; use {right}" if right else f"; valid names: {', '.join(sorted(valid))}"
    raise SpecError(f"XGBoost would ignore a parameter called {name!r}{hint}", key)


def _check_condition(name: str, given: Mapping[str, tuple[Any, ...]], task: str, key: str) -> None:
    if name in DART and "dart" not in given.get("booster", ()):
        raise SpecError("only booster dart reads it: add booster: dart to xgboost.fixed, or remove it", key)
    needed = BY_OBJECTIVE.get(name)
    if needed and not needed & set(given.get("objective") or OBJECTIVES[task][:1]):
        raise SpecError(f"only objective {' or '.join(sorted(needed))} reads it: set that, or remove it", key)


def _check_values(name: str, values: Iterable[Any], task: str, key: str) -> None:
    allowed = OBJECTIVES[task] if name == "objective" else ALLOWED_VALUES.get(name)
    for value in values:
        if name == "tree_method" and value == "gpu_hist":
            raise SpecError("gpu_hist is gone: use hist, and set resources.gpus_per_task for a GPU", key)
        if allowed and value not in allowed:
            raise SpecError(f"must be one of {', '.join(allowed)}, got {value!r}", key)
        if name in WHOLE and not (value is None or _is_whole(value)):
            raise SpecError(f"must be a whole number, got {value!r}", key)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()


def _check_twice(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(canonical(name), name)
        if names.count(name) > 1 or other != name:
            raise SpecError(
                f"{name!r} is given twice"
                + (f" (as {other!r} too)" if other != name else " (tuned and in xgboost.fixed)")
                + ": remove one"
            )


def typed(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as XGBoost takes them: one name each, whole numbers as int, true and false as 1 and 0.

    A null is left out, so that XGBoost's own default holds.
    """
    return {canonical(name): _typed(name, value) for name, value in params.items() if value is not None}


def _typed(name: str, value: Any) -> Any:
    return int(value) if isinstance(value, bool) or canonical(name) in WHOLE else value
