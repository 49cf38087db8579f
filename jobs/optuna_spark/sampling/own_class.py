"""Sampler and pruner classes of other packages, which a study file names as `module:Class`."""

from __future__ import annotations

import difflib
import importlib
import inspect
from types import ModuleType

from optuna_spark.errors import SpecError


def load_class(name: str, base: type, kind: str) -> type:
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
