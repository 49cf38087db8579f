"""The declared search space as Optuna's distributions, and a trial's values for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_spark.sampling.exhaustive.exhaustive import Declared
from optuna_spark.spec.conditions import exists, in_order, unmet
from optuna_spark.spec.sections import ParamSpec


def distribution(param: ParamSpec) -> BaseDistribution:
    """The distribution of one declared parameter."""
    if param.type == "categorical":
        return CategoricalDistribution(param.choices)
    assert param.low is not None  # ParamSpec checked it
    assert param.high is not None
    if param.type == "int":
        return IntDistribution(int(param.low), int(param.high), param.log, int(param.step or 1))
    return FloatDistribution(param.low, param.high, param.log, param.step)


def distributions(search_space: Mapping[str, ParamSpec]) -> dict[str, BaseDistribution]:
    """The distributions of a search space, by parameter."""
    return {name: distribution(param) for name, param in search_space.items()}


def declared(search_space: Mapping[str, ParamSpec]) -> Declared:
    """The search space for a sampler that tries every point of it."""
    return Declared(distributions(search_space), partial(suggest_params, search_space=search_space))


def suggest_params(trial: Any, search_space: Mapping[str, ParamSpec]) -> dict[str, Any]:
    """Let the trial suggest every declared parameter that exists in it, and return the values by parameter.

    A parameter with a condition (`when`) comes after those that it names, and only where it holds.
    """
    values: dict[str, Any] = {}
    for name in in_order(search_space):
        if exists(search_space[name], values):
            values[name] = _suggest(trial, name, search_space[name])
    return values


def suggest_queued(trial: Any, search_space: Mapping[str, ParamSpec], queued: Mapping[str, Any]) -> None:
    """Suggest the declared parameters of a trial that was queued with these values.

    Raises:
        ValueError: A value is of a parameter that does not exist in the trial: Optuna would silently leave it out.
    """
    values = suggest_params(trial, search_space)
    for name in in_order(search_space):
        if name in queued and name not in values:
            raise ValueError(unmet(search_space, name, values))


def _suggest(trial: Any, name: str, param: ParamSpec) -> Any:
    if param.type == "categorical":
        return trial.suggest_categorical(name, param.choices)
    if param.type == "int":
        low, high, step = int(param.low or 0), int(param.high or 0), int(param.step or 1)
        return trial.suggest_int(name, low, high, step=step, log=param.log)
    return trial.suggest_float(name, param.low, param.high, step=param.step, log=param.log)
