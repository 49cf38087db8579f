"""Every objective there is. A new built-in one is a folder beside this file and a line here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.objectives.context import Objective, ObjectiveContext
from optuna_spark.objectives.custom import CustomKind
from optuna_spark.objectives.kind import ObjectiveKind
from optuna_spark.objectives.quadratic.kind import QuadraticKind
from optuna_spark.objectives.trained_model import TrainedModel
from optuna_spark.objectives.xgboost.kind import XGBoostKind
from optuna_spark.spec.conditions import check_sampler
from optuna_spark.spec.model import ModelOrder
from optuna_spark.spec.parameters import check_parameters
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

BUILT_IN: Mapping[str, ObjectiveKind] = {"quadratic": QuadraticKind(), "xgboost": XGBoostKind()}
# What an objective of a table is where nobody names one.
FOR_TABLES, FOR_NO_TABLE = "xgboost", "quadratic"
_CUSTOM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def kind_of(objective: str) -> ObjectiveKind:
    """What is known of an objective.

    Raises:
        SpecError: It is neither a built-in one nor module:function.
    """
    if objective in BUILT_IN:
        return BUILT_IN[objective]
    if _CUSTOM.fullmatch(objective):
        return CustomKind()
    raise SpecError(f"objective must be {', '.join(BUILT_IN)} or module:function, got {objective!r}")


def sections() -> dict[str, type]:
    """The sections of a study file that belong to objectives, by name."""
    return {name: kind.section for name, kind in BUILT_IN.items() if kind.section is not None}


def default_search_space(objective: str) -> dict[str, ParamSpec]:
    """The search space of a built-in objective; empty for a user's own, which defines its space by running."""
    return kind_of(objective).default_space(TuningSpec("default", objective=objective))


def effective_search_space(spec: TuningSpec) -> dict[str, ParamSpec]:
    """The search space a study really has: its own, else what the objective brings."""
    return dict(spec.search_space) or kind_of(spec.objective).default_space(spec)


def complete(spec: TuningSpec) -> TuningSpec:
    """The spec with its effective search space."""
    return spec.with_changes(search_space=effective_search_space(spec))


def check_objective(spec: TuningSpec) -> None:
    """Check what can be known without data: the objective and its section, GPUs, parameters, metrics and directions.

    Raises:
        SpecError: The first thing wrong.
    """
    kind = kind_of(spec.objective)
    if kind.needs_data and spec.data is None:
        raise SpecError(f"objective {spec.objective} needs data: give data.path (and data.label)")
    if kind.section is None and spec.objective_section:
        keys = ", ".join(spec.objective_section)
        raise SpecError(f"objective {spec.objective} has no section of its own; remove {keys}")
    kind.check_gpus(spec)
    whole = complete(spec)
    check_parameters(whole.search_space, spec.enqueue)
    check_sampler(whole.search_space, spec.sampler)
    kind.check(whole)
    kind.check_model(whole)
    if spec.metric_names and (own := kind.value_names(whole)):
        raise SpecError(
            f"metric_names is for objectives that do not name their values: {spec.objective} calls them"
            f" {', '.join(own)}; remove metric_names"
        )


def check_import(spec: TuningSpec) -> None:
    """Import the user's own objective, if the spec names one: only where trials may run.

    Raises:
        SpecError: It cannot be imported, or is not called like an objective.
    """
    kind_of(spec.objective).check_import(spec)


def value_names(spec: TuningSpec) -> tuple[str, ...]:
    """What the values are called, one name for each direction; empty where nobody has named them."""
    return spec.metric_names or kind_of(spec.objective).value_names(complete(spec))


def fixed_params(spec: TuningSpec) -> dict[str, Any]:
    """The parameters that every trial gave its library beside its own (see `ObjectiveKind.fixed_params`)."""
    return kind_of(spec.objective).fixed_params(complete(spec))


def max_steps(spec: TuningSpec) -> int | None:
    """The last step a full trial reports; None where only the user's objective knows."""
    return kind_of(spec.objective).max_steps(spec)


def train_model(context: ObjectiveContext, order: ModelOrder) -> TrainedModel:
    """Train the final model of a study on all its training rows, and score it on the test rows.

    Raises:
        SpecError, DataError, DeviceError: As `build_objective`.
        ModelError: It cannot be trained, scored or saved.
    """
    check_objective(context.spec)
    return kind_of(context.spec.objective).train_model(replace(context, spec=complete(context.spec)), order)


def build_objective(context: ObjectiveContext) -> Objective:
    """The objective as Optuna calls it. Loads the data, once per process.

    Raises:
        SpecError: The objective or its parameters are wrong.
        DataError: The training table is.
        DeviceError: The GPU is not there.
    """
    check_objective(context.spec)
    return kind_of(context.spec.objective).build(replace(context, spec=complete(context.spec)))
