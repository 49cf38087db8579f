"""Builds samplers and pruners from their class names and arguments."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from inspect import Parameter
from types import ModuleType
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from optuna_spark.errors import SpecError
from optuna_spark.sampling.array_percentile import ArrayMedianPruner, ArrayPercentilePruner
from optuna_spark.sampling.exhaustive.brute_force import ExactBruteForceSampler
from optuna_spark.sampling.exhaustive.grid import ExactGridSampler
from optuna_spark.sampling.extrapolation_pruner import ExtrapolationPruner
from optuna_spark.spec.decode import unknown_key
from optuna_spark.spec.sections import ComponentSpec

OWN = (ExtrapolationPruner,)
EXACT: dict[type, type] = {
    optuna.samplers.GridSampler: ExactGridSampler,
    optuna.samplers.BruteForceSampler: ExactBruteForceSampler,
}
MAX_GRID = 1_000_000
# What samplers import when they sample for the first time, in the middle of a run.
PACKAGES = {"CmaEsSampler": "cmaes", "GPSampler": "torch", "QMCSampler": "scipy"}
# The releases of Optuna that array_tpe and array_percentile were compared with. With any other one, Optuna's own
# classes sample and prune.
SAME = ("5.0",)


def build_sampler(component: ComponentSpec, seed: int | None, *, nested: bool = False) -> BaseSampler:
    """Build the sampler that a spec names: a class of Optuna's, or `module:Class` of another package.

    An argument whose value is a mapping with `name` (and `args`) is itself a sampler.

    Args:
        component: Class name and arguments.
        seed: Used if the sampler takes a seed and the arguments do not set it.
        nested: Whether the sampler is an argument of another one.

    Raises:
        SpecError: There is no such sampler, or it does not take an argument, or it refuses a value.
    """
    cls = _find(optuna.samplers, BaseSampler, component.name, "sampler")
    args = dict(component.args)
    _check_constraints(cls, args)
    if "seed" in _parameters(cls):
        args.setdefault("seed", seed)
    if cls is optuna.samplers.GridSampler:
        _check_grid(args.get("search_space"))
    return cast(BaseSampler, _build(cls, args, "sampler", seed, nested))


def _check_constraints(cls: type, args: Mapping[str, Any]) -> None:
    """Refuse Optuna's former way to say what a trial must keep: a function, which a study file cannot hold."""
    for name in ("constraints", "constraints_func"):
        if name in args and (name == "constraints_func" or name not in _parameters(cls)):
            raise SpecError(
                f"{name} cannot be set: have the objective call trial.set_constraint(name, value), where above 0 is"
                " violated, and remove it here",
                f"sampler.args.{name}",
            )


def _check_grid(space: object) -> None:
    """Refuse a grid that would not fit into memory: GridSampler makes all its points at once."""
    axes = space.values() if isinstance(space, Mapping) else ()
    points = math.prod(len(axis) for axis in axes if isinstance(axis, Sequence))
    if points > MAX_GRID:
        raise SpecError(f"a grid must have at most {MAX_GRID} points, got more", "sampler.args.search_space")


def build_pruner(component: ComponentSpec, max_steps: int | None = None) -> BasePruner:
    """Build the pruner that a spec names: Optuna's, our own, or `module:Class` of another package.

    Pruners may be nested, as samplers in `build_sampler`.

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


def _find(module: ModuleType, base: type, name: str, kind: str) -> type:
    if ":" in name:
        return _load_class(name, base, kind)
    classes = {n: getattr(module, n) for n in module.__all__ if n not in ("BaseSampler", "BaseGASampler", "BasePruner")}
    classes |= {c.__name__: c for c in OWN}
    valid = {n: c for n, c in classes.items() if isinstance(c, type) and issubclass(c, base)}
    if name not in valid:
        raise SpecError(unknown_key(name, list(valid), kind), kind)
    return valid[name]


def _load_class(name: str, base: type, kind: str) -> type:
    """Import a class.

    Args:
        name: `module:Class`.
        base: What it must be derived from: Optuna's BaseSampler or BasePruner.
        kind: sampler or pruner, for messages.

    Raises:
        SpecError: There is no such module or class, it cannot be imported, or it is no class of that kind.
    """
    module_name, _, class_name = name.partition(":")
    module = _import(module_name, kind)
    cls = getattr(module, class_name, None)
    if cls is None:
        names = [n for n, v in vars(module).items() if inspect.isclass(v) and issubclass(v, base) and v is not base]
        near = difflib.get_close_matches(class_name, names, n=1)
        hint = f": did you mean {near[0]!r}?" if near else f"; its {kind}s: {', '.join(names) or 'none'}"
        raise SpecError(f"module {module_name!r} has no class {class_name!r}{hint}", kind)
    if not inspect.isclass(cls) or not issubclass(cls, base):
        raise SpecError(f"{name!r} must be a class derived from optuna's {base.__name__}", kind)
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise SpecError(f"{name!r} must be a whole {kind}, but lacks {missing}", kind)
    return cls


def _import(name: str, kind: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.partition(".")[0]
        if error.name == top:
            raise SpecError(
                f"there is no package {top!r} where the driver runs: install it there (with coordination database"
                " also where the workers run), or name its file in spark.py_files",
                kind,
            ) from error
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise SpecError(f"there is no module {error.name!r} in the package {top!r}", kind) from error
        raise SpecError(f"module {name!r} needs {error.name!r}, which is not installed", kind) from error
    except Exception as error:
        raise SpecError(f"module {name!r} cannot be imported: {type(error).__name__}: {error}", kind) from error


def _ours(cls: type, nested: bool) -> type:
    """Our own class in place of one of Optuna's, if there is one: it does the same sooner, or tries no point twice.

    A nested sampler does not see all that the other one proposes, so which points are left is for Optuna's class.
    ArrayTPESampler needs SciPy, which drivers have. Airflow, which only checks arguments here, need not have it.
    """
    if cls in EXACT and not nested:
        return EXACT[cls]
    if optuna.__version__.rpartition(".")[0] not in SAME:
        return cls
    if cls is optuna.samplers.TPESampler and importlib.util.find_spec("scipy") is not None:
        from optuna_spark.sampling.array_tpe import ArrayTPESampler

        return ArrayTPESampler
    faster: dict[type, type] = {
        optuna.pruners.PercentilePruner: ArrayPercentilePruner,
        optuna.pruners.MedianPruner: ArrayMedianPruner,
    }
    return faster.get(cls, cls)


def _parameters(cls: type) -> Mapping[str, Parameter]:
    """The parameters of a class's constructor, by name; none for one that has no signature."""
    try:
        return inspect.signature(cls).parameters
    except ValueError:
        return {}


def _build(cls: type, args: dict[str, Any], kind: str, seed: int | None = None, nested: bool = False) -> Any:
    _check_package(cls, kind)
    parameters = _parameters(cls)
    named = [name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name, value in args.items():
        if name not in named and not takes_any:
            raise SpecError(unknown_key(name, named), f"{kind}.args")
        if (inner := ComponentSpec.of(value)) is not None:
            args[name] = build_sampler(inner, seed, nested=True) if kind == "sampler" else build_pruner(inner)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _ours(cls, nested)(**args)
    except Exception as error:
        if _is_optunas(cls) and not isinstance(error, TypeError | ValueError | ImportError):
            raise
        said = str(error) if _is_optunas(cls) else f"{type(error).__name__}: {error}"
        raise SpecError(f"{cls.__name__} refuses its arguments: {said}", f"{kind}.args") from error


def _is_optunas(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("optuna", "optuna_spark")


def _check_package(cls: type, kind: str) -> None:
    """Refuse a class of Optuna's, or one derived from it, without the package that it samples with."""
    needed = [PACKAGES[c.__name__] for c in cls.__mro__ if c.__name__ in PACKAGES and _is_optunas(c)]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise SpecError(
                f"{cls.__name__} needs the package {package}, which is not installed where this is checked or the"
                f" driver runs: install it there, or choose another {kind}",
                kind,
            ) from ImportError(package)
