"""An objective of one's own: which file beside the study file it is in, and whether that has the function.

Nothing is imported: it is the user's code, and the DAG processor reads study files all the time. The file is parsed.
"""

from __future__ import annotations

import ast
import difflib
import platform
from collections.abc import Iterator
from pathlib import Path

from optuna_spark.errors import SpecError
from tuning_pipeline.study_file.keys.study_keys import StudyKeys
from tuning_pipeline.targets.registry import kind_of


def own_objective(folder: Path, objective: str) -> Path | None:
    """The file or package folder of a `module:function` objective beside the study file; None if there is none."""
    if ":" not in objective:
        return None
    return _module_in(folder, objective.partition(":")[0].partition(".")[0])


def check_own_objective(folder: Path, keys: StudyKeys) -> None:
    """Refuse an own objective whose file or function is not there, and the same of its model's functions.

    A module that is installed on the cluster cannot be seen from here. It is named in full, package.module:function.

    Args:
        folder: The study file's.
        keys: The study file's content.

    Raises:
        SpecError: The rule, what is there, and the next step.
    """
    model = keys.model
    named: list[tuple[str, str | None]] = [("objective", keys.objective)]
    named += [("model.train", model.train), ("model.score", model.score)] if model is not None else []
    for key, name in named:
        if name is not None and ":" in name:
            _check_named(folder, keys, name, key)


def _check_named(folder: Path, keys: StudyKeys, name: str, key: str) -> None:
    module, _, function = name.partition(":")
    top, *inner = module.split(".")
    shipped = _module_in(folder, top)
    if shipped is None:
        shipped = next((path for path in map(Path, keys.spark.py_files) if path.name == f"{top}.py"), None)
    if shipped is None:
        if not inner and not brings_code(keys):
            raise SpecError(_no_module(folder, top), key)
        return
    if not shipped.is_file() and not shipped.is_dir():  # named in spark.py_files, and not on this machine
        return
    file = _file_of(shipped, inner)
    if file is None:
        raise SpecError(f"there is no module {module!r} in {shipped.name} beside the study file", key)
    _check_function(file, function, key)


def _module_in(folder: Path, name: str) -> Path | None:
    package, file = folder / name, folder / f"{name}.py"
    if (package / "__init__.py").is_file():  # which Python, too, takes before the file
        return package
    return file if file.is_file() else None


def _file_of(shipped: Path, inner: list[str]) -> Path | None:
    """The file of a module inside what is shipped; None if there is none."""
    found: Path | None = shipped
    for name in inner:
        found = _module_in(found, name) if found is not None and found.is_dir() else None
    return found / "__init__.py" if found is not None and found.is_dir() else found


def brings_code(keys: StudyKeys) -> bool:
    """Whether the study brings further code to its workers, in which the module may be."""
    return bool(keys.spark.py_files or keys.spark.archives) or kind_of(keys).brings_code(keys)


def _no_module(folder: Path, name: str) -> str:
    beside = [path.stem for path in folder.glob("*.py")]
    beside += [path.parent.name for path in folder.glob("*/__init__.py")]
    near = difflib.get_close_matches(name, sorted(beside), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return (
        f"there is no module {name!r}{hint}: put {name}.py, or the folder {name} with its __init__.py, beside the study"
        " file, or name it in spark.py_files; a module installed on the cluster is named in full,"
        " package.module:function"
    )


def _check_function(file: Path, function: str, key: str) -> None:
    try:
        tree = ast.parse(file.read_bytes(), filename=file.name)
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise SpecError(f"{file.name} cannot be read by Python {platform.python_version()}: {line}", key) from None
    except OSError as error:
        raise SpecError(f"{file.name} cannot be read: {error.strerror}", key) from None
    names = list(_names(tree))
    if function in names or _ANY in names:
        return
    public = [name for name in dict.fromkeys(names) if not name.startswith("_")]
    near = difflib.get_close_matches(function, public, n=1)
    hint = f": did you mean {near[0]!r}?" if near else f"; it has: {', '.join(public) or 'none'}"
    raise SpecError(f"{file.name} has no function {function!r}{hint}", key)


# Stands for names that only running the module makes: an import of `*`, __getattr__, globals()["name"] = ...
_ANY = "*"
_DYNAMIC = {"__getattr__", "globals", "vars", "setattr", "exec"}


def _names(node: ast.AST) -> Iterator[str]:
    """The names that a module's statements define, whichever way they go."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield _ANY if name in _DYNAMIC else name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Name(id=name) if name in _DYNAMIC:
                yield _ANY
            case _:
                yield from _names(child)
