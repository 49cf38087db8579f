"""Samplers and pruners by name: nested ones, their seeds, and packages that they need."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import optuna
import pytest

from optuna_spark.errors import SpecError
from optuna_spark.sampling.build import PACKAGES, build_sampler
from optuna_spark.spec.sections import ComponentSpec


def first_values(name: str, args: dict[str, Any], seed: int | None) -> list[float]:
    study = optuna.create_study(sampler=build_sampler(ComponentSpec(name, args), seed))
    return [study.ask().suggest_float("x", 0, 1) for _ in range(5)]


def test_the_seed_reaches_a_nested_sampler() -> None:
    nested = {"fixed_params": {"y": 1.0}, "base_sampler": {"name": "TPESampler"}}
    assert first_values("PartialFixedSampler", nested, 7) == first_values("PartialFixedSampler", nested, 7)
    assert first_values("PartialFixedSampler", nested, 7) != first_values("PartialFixedSampler", nested, 8)
    assert first_values("PartialFixedSampler", nested, 7) == first_values("TPESampler", {}, 7)


def test_a_grid_may_have_a_parameter_called_name() -> None:
    study = optuna.create_study(sampler=build_sampler(ComponentSpec("GridSampler", {"search_space": {"name": [3]}}), 1))
    assert study.ask().suggest_int("name", 0, 9) == 3


@pytest.mark.parametrize("sampler", sorted(PACKAGES))
def test_a_sampler_whose_package_is_missing_is_refused_with_the_packages_name(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match=f"{sampler} needs the package {PACKAGES[sampler]}") as refused:
        build_sampler(ComponentSpec(sampler, {}), 1)
    assert isinstance(refused.value.__cause__, ImportError)  # by which Airflow knows that the driver may have it


def test_samplers_import_those_packages_only_when_they_sample() -> None:
    """If this fails, Optuna has another such sampler: add it to PACKAGES."""
    classes = [getattr(optuna.samplers, name) for name in optuna.samplers.__all__ if name.endswith("Sampler")]
    lazy = {c.__name__ for c in classes if "_LazyImport(" in inspect.getsource(inspect.getmodule(c) or optuna)}
    assert lazy == set(PACKAGES)


@pytest.mark.parametrize("name", ["TPESampler", "NSGAIISampler", "RandomSampler"])
@pytest.mark.parametrize("argument", ["constraints", "constraints_func"])
def test_constraints_belong_into_the_objective(name: str, argument: str) -> None:
    with pytest.raises(SpecError, match=rf"sampler.args.{argument}: {argument} cannot be set: .*trial.set_constraint"):
        build_sampler(ComponentSpec(name, {argument: True}), 1)
