"""Which metrics a study optimises, and whether its directions suit them. Standard library only."""

from __future__ import annotations

from optuna_spark.errors import SpecError
from optuna_spark.objectives.xgboost.metric_tables import DEFAULT, LARGER_IS_BETTER, SMALLER_IS_BETTER
from optuna_spark.objectives.xgboost.section import section_of
from optuna_spark.spec.tuning import TuningSpec


def metrics(spec: TuningSpec) -> tuple[str, ...]:
    """The metrics of the study, one per direction.

    Raises:
        SpecError: Not one metric per direction, an unknown one, or one that is better the other way.
    """
    xgboost = section_of(spec)
    given = DEFAULT[xgboost.task] if xgboost.metric is None else xgboost.metric
    names = (given,) if isinstance(given, str) else given
    if len(names) != len(spec.directions):
        raise SpecError(
            f"must name one metric per direction ({len(spec.directions)}), got {len(names)}: {', '.join(names)}",
            "xgboost.metric",
        )
    for name, direction in zip(names, spec.directions, strict=True):
        _check(name, direction, xgboost.task)
        if name == "quantile" and "reg:quantileerror" not in (xgboost.objective, xgboost.fixed.get("objective")):
            raise SpecError("quantile needs xgboost.objective: reg:quantileerror", "xgboost.metric")
    if len(set(names)) < len(names):
        raise SpecError(f"must not name a metric twice, got {', '.join(names)}", "xgboost.metric")
    return names


def _check(name: str, direction: str, task: str) -> None:
    base = name.partition("@")[0]
    if base not in SMALLER_IS_BETTER[task] + LARGER_IS_BETTER[task]:
        valid = ", ".join(SMALLER_IS_BETTER[task] + LARGER_IS_BETTER[task])
        raise SpecError(f"must be a metric for task {task} ({valid}), got {name!r}", "xgboost.metric")
    if base == "tweedie-nloglik" and "@" not in name:
        raise SpecError("tweedie-nloglik needs its power: write tweedie-nloglik@1.5", "xgboost.metric")
    better = "maximize" if base in LARGER_IS_BETTER[task] else "minimize"
    if direction != better:
        raise SpecError(f"{name} is better when {_WORDS[better]}: set its direction to {better}", "directions")


_WORDS = {"maximize": "larger", "minimize": "smaller"}
