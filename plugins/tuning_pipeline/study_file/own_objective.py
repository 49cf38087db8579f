"""An objective of one's own: whether its file has the function, and whether what travels with it can run on a worker.

Nothing is imported: it is the user's code, and the DAG processor reads study files all the time. The file is parsed.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from pathlib import Path

from optuna_spark.errors import SpecError
from tuning_pipeline.study_file.beside import file_of, modules_of
from tuning_pipeline.study_file.keys.study_keys import StudyKeys
from tuning_pipeline.study_file.notebook import check_runs_without_notebook, parse
from tuning_pipeline.study_file.own_code import check_size, own_code, own_objective
from tuning_pipeline.targets.registry import kind_of


def check_own_objective(folder: Path, keys: StudyKeys) -> None:
    """Refuse an own objective whose file or function is not there, and code beside it that cannot travel or run.

    The same of the functions of its final model, which are in its module or package.

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
    shipped = own_objective(folder, keys.objective)
    if shipped is None:
        shipped = next((path for path in map(Path, keys.spark.py_files) if path.name == f"{top}.py"), None)
    if shipped is None:
        if not inner and not brings_code(keys):
            raise SpecError(_no_module(folder, top), key)
        return
    if not shipped.is_file() and not shipped.is_dir():  # named in spark.py_files, and not on this machine
        return
    file = file_of(shipped, inner)
    if file is None or not file.is_file():
        raise SpecError(f"there is no module {module!r} in {shipped.name} beside the study file", key)
    _check_function(file, function, key)
    modules = own_code(folder, keys.objective, keys.spark.py_files)
    for helper in modules[1:]:
        if helper.is_file():
            _names_in(helper)
    check_size(modules)


def brings_code(keys: StudyKeys) -> bool:
    """Whether the study brings further code to its workers, in which the module may be."""
    return bool(keys.spark.py_files or keys.spark.archives) or kind_of(keys).brings_code(keys)


def _no_module(folder: Path, name: str) -> str:
    modules = modules_of(folder)
    if name in modules:  # a folder without __init__.py
        return (
            f"{name} beside the study file is a folder without __init__.py: name the module in it,"
            f" {name}.<module>:function, or give it an __init__.py"
        )
    near = difflib.get_close_matches(name, list(modules), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    if (folder / f"{name}.ipynb").is_file():
        return (
            f"there is no module {name!r}, and {name}.ipynb is a notebook: write its code into {name}.py, for example"
            f" with `jupyter nbconvert --to script {name}.ipynb`"
        )
    return (
        f"there is no module {name!r}{hint}: put {name}.py, or the folder {name} with its __init__.py, beside the study"
        " file, or name it in spark.py_files; a module installed on the cluster is named in full,"
        " package.module:function"
    )


def _check_function(file: Path, function: str, key: str) -> None:
    names = _names_in(file)
    if function in names or _ANY in names:
        return
    public = [name for name in names if not name.startswith("_")]
    near = difflib.get_close_matches(function, public, n=1)
    hint = f": did you mean {near[0]!r}?" if near else f"; it has: {', '.join(public) or 'none'}"
    raise SpecError(f"{file.name} has no function {function!r}{hint}", key)


def _names_in(file: Path) -> dict[str, None]:
    """The names that a module defines, in their order.

    Raises:
        SpecError: It cannot be read, or only a notebook can run it.
    """
    try:
        tree = parse(file, file.read_bytes())
    except OSError as error:
        raise SpecError(f"{file.name} cannot be read: {error.strerror}", "objective") from None
    names = dict.fromkeys(_names(tree))
    if _ANY not in names:
        check_runs_without_notebook(file, tree, names)
    return names


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
