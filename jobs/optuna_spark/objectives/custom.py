"""A user's own objective: any `module:function` that Python can import where the trials run."""

from __future__ import annotations

import difflib
import importlib
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from optuna_spark.errors import SpecError
from optuna_spark.objectives.context import Objective, ObjectiveContext
from optuna_spark.objectives.kind import ObjectiveKind
from optuna_spark.spec.tuning import TuningSpec


class CustomKind(ObjectiveKind):
    """Any user's own objective: nothing is known of it before it is imported where the trials run."""

    trainer = "optuna_spark.objectives.own_model:train_own_model"
    max_gpus: ClassVar[int | None] = None

    def check_model(self, spec: TuningSpec) -> None:
        if (model := spec.model) is None:
            return
        if model.refit and model.train is None:
            raise SpecError(
                f"model.train is required with an objective of your own: name the function that trains the model of"
                f" {spec.objective}, as module:function"
            )
        if model.score is not None and (spec.data is None or spec.data.test is None):
            raise SpecError("model.score needs test rows to score the model on: give data.test, or remove model.score")
        top = spec.objective.partition(":")[0].partition(".")[0]
        for name, value in (("model.train", model.train), ("model.score", model.score)):
            if value is not None and value.partition(":")[0].partition(".")[0] != top:
                raise SpecError(
                    f"{name} must be in the module or package {top!r} of the objective, which travels to the cluster,"
                    f" got {value!r}"
                )

    def check_import(self, spec: TuningSpec) -> None:
        load_objective(spec.objective, None)
        if spec.model is not None and spec.model.train is not None:
            load_function(spec.model.train, "model.train", ("params", "data"), None)
        if spec.model is not None and spec.model.score is not None:
            load_function(spec.model.score, "model.score", ("model", "data"), None)

    def build(self, context: ObjectiveContext) -> Objective:
        return load_objective(context.spec.objective, context.for_trials())


def load_objective(name: str, context: Any) -> Callable[[Any], Any]:
    """The function, to be called with a trial alone.

    It gets `context` as its second argument when its second positional parameter has no default or is called
    `context`.

    Args:
        name: `module:function`.
        context: The ObjectiveContext.

    Raises:
        SpecError: No such module or function, it cannot be imported, or it is not called like an objective.
    """
    function = _function(name, "objective")
    if _takes_context(function, name, "objective", ("trial",)):
        return lambda trial: function(trial, context)
    return function


def load_function(name: str, key: str, arguments: tuple[str, ...], context: Any) -> Callable[..., Any]:
    """Another function of the study's, to be called with `arguments`. Like an objective it may take a context, too.

    Raises:
        SpecError: As `load_objective`, naming `key`.
    """
    function = _function(name, key)
    if _takes_context(function, name, key, arguments):
        return lambda *given: function(*given, context)
    return function


def _function(name: str, key: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    module = _import(module_name, key)
    function = getattr(module, function_name, None)
    if function is None:
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        near = difflib.get_close_matches(function_name, names, n=1)
        hint = f": did you mean {near[0]!r}?" if near else f"; it has: {', '.join(names) or 'none'}"
        raise SpecError(f"module {module_name!r} has no function {function_name!r}{hint}", key)
    if not callable(function):
        raise SpecError(f"{name!r} must be a function, got {type(function).__name__}", key)
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise SpecError(f"{name!r} must return its value itself: write it without async and yield", key)
    return function  # type: ignore[no-any-return]  # callable, checked above


def _import(name: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            top = name.partition(".")[0]
            raise SpecError(
                f"there is no module {name!r} where the trials run: put {top}.py, or the folder {top} with its"
                " __init__.py, beside the study file, or name it in spark.py_files",
                key,
            ) from error
        raise SpecError(
            f"module {name!r} needs {error.name!r}, which is not installed: install it where the trials run, or import"
            f" it with an import statement from beside the study file, or name its file in spark.py_files"
            f"{_where(error)}",
            key,
        ) from error
    except Exception as error:
        raise SpecError(
            f"module {name!r} cannot be imported: {type(error).__name__}: {error}{_where(error)}", key
        ) from error


def _where(error: Exception) -> str:
    """The line of a module at which its import stopped, in brackets."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    last = frames[-1]
    return f" ({Path(last.filename).name}, line {last.lineno})" if last.filename not in _PYTHONS_OWN else ""


_PYTHONS_OWN = {__file__, importlib.__file__}


def _takes_context(function: Callable[..., Any], name: str, key: str, arguments: tuple[str, ...]) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in callables have none
        return False
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    n = len(arguments)
    takes = len(positional) > n and (positional[n].default is _EMPTY or positional[n].name == "context")
    try:
        signature.bind(*range(n + 1 if takes else n))
    except TypeError:
        given = ", ".join(arguments)
        raise SpecError(
            f"{name!r} must be callable as function({given}) or function({given}, context), got {signature}", key
        ) from None
    return takes


_EMPTY = inspect.Parameter.empty
