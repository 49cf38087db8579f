"""Builds samplers and pruners from their class names and arguments."""

from __future__ import annotations

import importlib.util
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from optuna_spark.errors import SpecError
from optuna_spark.sampling.exhaustive.brute_force import ExactBruteForceSampler
from optuna_spark.sampling.exhaustive.grid import ExactGridSampler
from optuna_spark.sampling.extrapolation_pruner import ExtrapolationPruner
from optuna_spark.spec.decode import unknown_key
from optuna_spark.spec.sections import ComponentSpec

CONSTRAINTS_ATTR = "constraints"
OWN = (ExtrapolationPruner,)
EXACT: dict[type, type] = {
    optuna.samplers.GridSampler: ExactGridSampler,
    optuna.samplers.BruteForceSampler: ExactBruteForceSampler,
}
MAX_GRID = 1_000_000
# What samplers import when they sample for the first time, in the middle of a run.
PACKAGES = {"CmaEsSampler": "cmaes", "GPSampler": "torch", "QMCSampler": "scipy"}
# The releases of Optuna whose TPESampler array_tpe was compared with. With any other one, Optuna's own class samples.
SAME_TPE = ("5.0",)


def build_sampler(component: ComponentSpec, seed: int | None, *, nested: bool = False) -> BaseSampler:
    """Build the sampler that a spec names.

    An argument whose value is a mapping with `name` (and `args`) is itself a sampler. With the argument `constraints`
    the sampler reads a trial's constraints from its user attribute `constraints`, a list of numbers (feasible: all
    <= 0).

    Args:
        component: Class name and arguments.
        seed: Used if the sampler takes a seed and the arguments do not set it.
        nested: Whether the sampler is an argument of another one.

    Raises:
        SpecError: There is no such sampler, or it does not take an argument, or it refuses a value.
    """
    cls = _find(optuna.samplers, BaseSampler, component.name, "sampler")
    args = dict(component.args)
    parameters = inspect.signature(cls).parameters
    if "seed" in parameters:
        args.setdefault("seed", seed)
    if args.pop("constraints", False):
        if "constraints_func" not in parameters:
            raise SpecError(f"{component.name} takes no constraints; remove sampler.args.constraints")
        args["constraints_func"] = read_constraints
    if cls is optuna.samplers.GridSampler:
        _check_grid(args.get("search_space"))
    return cast(BaseSampler, _build(cls, args, "sampler", seed, nested))


def _check_grid(space: object) -> None:
    """Refuse a grid that would not fit into memory: GridSampler makes all its points at once."""
    axes = space.values() if isinstance(space, Mapping) else ()
    points = math.prod(len(axis) for axis in axes if isinstance(axis, Sequence))
    if points > MAX_GRID:
        raise SpecError(f"a grid must have at most {MAX_GRID} points, got more", "sampler.args.search_space")


def build_pruner(component: ComponentSpec, max_steps: int | None = None) -> BasePruner:
    """Build the pruner that a spec names, Optuna's or our own. Pruners may be nested, as samplers in `build_sampler`.

    Args:
        component: Class name and arguments.
        max_steps: The last step of a full trial, if it is known. ExtrapolationPruner uses it if its arguments have no
            `max_resource`.

    Raises:
        SpecError: There is no such pruner, or it does not take an argument, or it refuses a value.
    """
    cls = _find(optuna.pruners, BasePruner, component.name, "pruner")
    args = dict(component.args)
    if cls is ExtrapolationPruner and max_steps is not None:
        args.setdefault("max_resource", max_steps)
    return cast(BasePruner, _build(cls, args, "pruner"))


def read_constraints(trial: FrozenTrial) -> Sequence[float]:
    """The constraints that an objective stored. A trial without any counts as infeasible."""
    return cast(Sequence[float], trial.user_attrs.get(CONSTRAINTS_ATTR, (1.0,)))


def _find(module: ModuleType, base: type, name: str, kind: str) -> type:
    classes = {n: getattr(module, n) for n in module.__all__ if n not in ("BaseSampler", "BaseGASampler", "BasePruner")}
    classes |= {c.__name__: c for c in OWN}
    valid = {n: c for n, c in classes.items() if isinstance(c, type) and issubclass(c, base)}
    if name not in valid:
        raise SpecError(unknown_key(name, list(valid), kind), kind)
    return valid[name]


def _ours(cls: type, nested: bool) -> type:
    """Our own class in place of one of Optuna's, if there is one: it proposes the same sooner, or no point twice.

    A nested sampler does not see all that the other one proposes, so which points are left is for Optuna's class.
    The one for TPE needs SciPy, which drivers have. Airflow, which only checks arguments here, need not have it.
    """
    if cls in EXACT and not nested:
        return EXACT[cls]
    tested = optuna.__version__.rpartition(".")[0] in SAME_TPE
    if cls is not optuna.samplers.TPESampler or not tested or importlib.util.find_spec("scipy") is None:
        return cls
    from optuna_spark.sampling.array_tpe import ArrayTPESampler

    return ArrayTPESampler


def _is_component(value: object) -> bool:
    """Whether an argument describes a sampler or pruner. A grid may have a parameter called `name`: a list."""
    return isinstance(value, Mapping) and isinstance(value.get("name"), str) and value.keys() <= {"name", "args"}


def _build(cls: type, args: dict[str, Any], kind: str, seed: int | None = None, nested: bool = False) -> Any:
    package = PACKAGES.get(cls.__name__)
    if package is not None and importlib.util.find_spec(package) is None:
        raise SpecError(
            f"{cls.__name__} needs the package {package}, which is not installed where this is checked or the driver"
            f" runs: install it there, or choose another {kind}",
            kind,
        ) from ImportError(package)
    parameters = [p for p in inspect.signature(cls).parameters if p != "self"]
    for name, value in args.items():
        if name not in parameters:
            raise SpecError(unknown_key(name, parameters), f"{kind}.args")
        if _is_component(value):
            inner = ComponentSpec(value["name"], dict(value.get("args", {})))
            args[name] = build_sampler(inner, seed, nested=True) if kind == "sampler" else build_pruner(inner)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _ours(cls, nested)(**args)
    except (TypeError, ValueError, ImportError) as error:
        raise SpecError(f"{cls.__name__} refuses its arguments: {error}", f"{kind}.args") from error
