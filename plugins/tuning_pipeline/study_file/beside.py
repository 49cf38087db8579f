"""Modules beside a study file: which file a module's name means there, and the files of a module.

As Python finds them: a package before a file, a file before a folder without `__init__.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Not hidden, and no code or data of a package either.
_LEFT_OUT = {"__pycache__"}


def module_in(folder: Path, name: str) -> Path | None:
    """The file or the package's folder of a module in a folder; None if there is none."""
    package, file = folder / name, folder / f"{name}.py"
    if (package / "__init__.py").is_file():
        return package
    if file.is_file():
        return file
    return package if holds_code(package) else None


def is_open(module: Path) -> bool:
    """Whether a module is a folder without `__init__.py`: an installed package may have its name and more in it."""
    return module.is_dir() and not (module / "__init__.py").is_file()


def holds_code(folder: Path) -> bool:
    """Whether a folder holds modules, itself or in the folders in it."""
    return any(path.is_file() for pattern in ("*.py", "*/*.py") for path in folder.glob(pattern))


def file_of(module: Path, inner: list[str]) -> Path | None:
    """The file of a module inside a module.

    Args:
        module: A file or a package's folder.
        inner: The names below it: ["code", "train"] for mine.code.train in `mine`.

    Returns:
        The file; the folder itself where it has no `__init__.py`; None if there is none.
    """
    found: Path | None = module
    for name in inner:
        found = module_in(found, name) if found is not None and found.is_dir() else None
    if found is not None and (found / "__init__.py").is_file():
        return found / "__init__.py"
    return found


def modules_of(folder: Path) -> dict[str, Path]:
    """Every module of a folder, by name."""
    try:
        names = {path.stem if path.suffix == ".py" else path.name for path in folder.iterdir()}
    except OSError:
        return {}
    found = {name: module_in(folder, name) for name in sorted(names) if name.isidentifier()}
    return {name: module for name, module in found.items() if module is not None}


def files_of(module: Path) -> Iterator[Path]:
    """The files of a module, sorted in each folder: all of a package but hidden ones and what Python has compiled.

    Links are followed, each folder once.
    """
    if module.is_file():
        yield module
        return
    seen: set[str] = set()
    for here, folders, files in os.walk(module, followlinks=True):
        seen.add(os.path.realpath(here))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _LEFT_OUT and os.path.realpath(Path(here) / name) not in seen
        )
        for name in sorted(files):
            file = Path(here) / name
            if not name.startswith(".") and file.suffix != ".pyc" and file.is_file():
                yield file
