"""The code that travels with a study: its objective's module, and the modules beside the study file that it imports.

Nothing is imported: it is the user's code, and the DAG processor reads study files all the time. Of a module only the
files are parsed that say the name of a module beside it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from optuna_spark.errors import SpecError
from tuning_pipeline.study_file.beside import file_of, files_of, is_open, module_in, modules_of
from tuning_pipeline.study_file.notebook import parse

# Bounds of what travels with one study, so that a run never sends a data set or an environment by accident.
MOST_FILES, MOST_BYTES = 2_000, 64 * 2**20
# What driver and workers import themselves: a file of that name would hide it from them.
OURS = frozenset({
    "cloudpickle", "cryptography", "joblib", "joblibspark", "numpy", "optuna", "optuna_spark", "pandas", "py4j",
    "pyarrow", "pymysql", "pyspark", "scipy", "sklearn", "sqlalchemy", "xgboost",
})  # fmt: skip


def own_objective(folder: Path, objective: str) -> Path | None:
    """The file or package folder of a `module:function` objective beside the study file; None if there is none."""
    if ":" not in objective:
        return None
    top, *inner = objective.partition(":")[0].split(".")
    module = module_in(folder, top)
    if module is not None and is_open(module) and not _has(module, inner):
        return None
    return module


def own_code(folder: Path, objective: str, brought: Iterable[str] = ()) -> tuple[Path, ...]:
    """What travels with a study: the module of its objective first, then what that imports, and so on.

    Args:
        folder: The study file's.
        objective: As the study file names it.
        brought: `spark.py_files`: what the study file names itself is not sent twice.

    Returns:
        Files, and folders of packages, all of them beside the study file.

    Raises:
        SpecError: A module has the name of one that is installed; a module cannot be read.
    """
    first = own_objective(folder, objective)
    if first is None:
        return ()
    taken = {first.stem, *(Path(name).stem for name in brought)}
    neighbours = {name: module for name, module in modules_of(folder).items() if name not in taken}
    found = [first]
    for module in found:  # grows as it goes
        for name in _imported(module, neighbours):
            found.append(neighbours.pop(name))
    return tuple(found)


def check_size(modules: Iterable[Path]) -> None:
    """Refuse more than a run may send.

    Raises:
        SpecError: The module, how much it is, the limit, and where large files belong.
    """
    count = total = 0
    for module in modules:
        largest, size = module, 0
        for file in files_of(module):
            count, bytes_ = count + 1, file.stat().st_size
            total += bytes_
            largest, size = (file, bytes_) if bytes_ > size else (largest, size)
            if count > MOST_FILES:
                raise SpecError(
                    f"at most {MOST_FILES} files travel with an objective, and {module.name} beside the study file"
                    " holds more: move what its code does not need out of it",
                    "objective",
                )
        if total > MOST_BYTES:
            raise SpecError(
                f"at most {shown_size(MOST_BYTES)} travel with an objective, and with {module.name} beside the study"
                f" file it is {shown_size(total)} (the largest: {largest.name}, {shown_size(size)}): keep large files"
                " where workers can read them, as data.path or on a share",
                "objective",
            )


def shown_code(modules: Iterable[Path]) -> str:
    """What travels, in words: mine.py (3 kB), pack (4 files, 12 kB)."""
    return ", ".join(map(_shown, modules))


def shown_size(count: int) -> str:
    """A number of bytes, for people."""
    return f"{count / 2**20:.0f} MB" if count >= 2**20 else f"{max(1, round(count / 2**10))} kB"


def _shown(module: Path) -> str:
    sizes = [file.stat().st_size for file in files_of(module)]
    files = f"{len(sizes)} file{'s' if len(sizes) > 1 else ''}, " if module.is_dir() else ""
    return f"{module.name} ({files}{shown_size(sum(sizes))})"


def _imported(module: Path, neighbours: Mapping[str, Path]) -> list[str]:
    """The names of the modules beside the study file that a module imports, in any of its files and functions."""
    found: dict[str, None] = {}
    for file in files_of(module):
        if file.suffix != ".py":
            continue
        for dotted in _imports(file, neighbours, must_parse=module.is_file()):
            top, *inner = dotted.split(".")
            neighbour = neighbours.get(top)
            if neighbour is None or (is_open(neighbour) and not _has(neighbour, inner)):
                continue
            _check_name(file, neighbour, top)
            found[top] = None
    return list(found)


def _imports(file: Path, names: Collection[str], must_parse: bool) -> Iterator[str]:
    """The absolute imports of a file that says one of the names; none of one that need not be read and cannot be."""
    try:
        source = file.read_bytes()
        if not any(name.encode() in source for name in names):
            return
        tree = parse(file, source)
    except SpecError:
        if must_parse:
            raise
        return  # a package may hold files that nothing imports
    except OSError as error:
        raise SpecError(f"{file.name} cannot be read: {error.strerror}", "objective") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _has(module: Path, inner: list[str]) -> bool:
    """Whether a folder without `__init__.py` has the module that is asked of it."""
    file = file_of(module, inner)
    return file is not None and file.is_file()


def _check_name(file: Path, neighbour: Path, name: str) -> None:
    whose = "is Python's own" if name in sys.stdlib_module_names else "driver and workers have installed"
    if name in sys.stdlib_module_names or name in OURS:
        raise SpecError(
            f"{file.name} imports {name!r}, which {whose}, and {neighbour.name} beside the study file would hide it:"
            f" rename {neighbour.name}",
            "objective",
        )
