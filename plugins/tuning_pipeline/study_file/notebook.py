"""A module's source, parsed; what only a notebook can run is named with its line."""

from __future__ import annotations

import ast
import platform
from collections.abc import Collection, Iterator
from pathlib import Path

from optuna_spark.errors import SpecError

# Names that Jupyter and Databricks put into a notebook. Workers have none of them.
NOTEBOOK_NAMES = frozenset({"get_ipython", "display", "displayHTML", "dbutils", "spark", "sc"})


def parse(file: Path, source: bytes) -> ast.Module:
    """Parse a module.

    Raises:
        SpecError: It is no Python; with its line.
    """
    try:
        return ast.parse(source, filename=file.name)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, SyntaxError) and _is_magic(source, error.lineno):
            raise SpecError(
                f"{file.name}, line {error.lineno}: a notebook's magic (%) or shell command (!) is no Python: take the"
                " line out",
                "objective",
            ) from None
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise SpecError(
            f"{file.name} cannot be read by Python {platform.python_version()}: {line}", "objective"
        ) from None


def check_runs_without_notebook(file: Path, tree: ast.Module, defined: Collection[str]) -> None:
    """Refuse a module whose import would stop at a line that only a notebook can run, as `nbconvert` writes magics.

    What stands in an `if`, a `try` or a function may never run outside a notebook, and passes.

    Args:
        file: The module's.
        tree: Its source, parsed.
        defined: The names that it defines or imports itself.

    Raises:
        SpecError: The line, and what it uses.
    """
    for name in _at_import(tree):
        if name.id in NOTEBOOK_NAMES and name.id not in defined:
            magic = ", as the export of a notebook writes its magics (%) and shell commands (!)"
            raise SpecError(
                f"{file.name}, line {name.lineno}, uses {name.id}, which only a notebook has"
                f"{magic if name.id == 'get_ipython' else ''}: take the line out, or define what it needs",
                "objective",
            )


def _is_magic(source: bytes, line: int | None) -> bool:
    lines = source.splitlines()
    return line is not None and 0 < line <= len(lines) and lines[line - 1].lstrip().startswith((b"%", b"!"))


def _at_import(node: ast.AST) -> Iterator[ast.Name]:
    """The names that are read when the module is imported, whichever way it goes."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.If() | ast.IfExp() | ast.Try():
                continue
            case ast.Name(ctx=ast.Load()):
                yield child
            case _:
                yield from _at_import(child)
